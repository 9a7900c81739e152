/// The coordinator's HTTP interface in the words of OpenAPI 3.1: `openapi.yaml` beside this file.
///
/// A test compares it with `Route`, and `ops/checks/openapi` with a coordinator at work.
package enum OpenAPI {
    /// The document, in YAML.
    package static let document = String(decoding: PackageResources.openapi_yaml, as: UTF8.self)
}
