/// The coordinator's HTTP interface in the words of OpenAPI 3.1: `openapi.yaml` beside this file.
///
/// A test compares it with `Route`, and `ops/checks/openapi` with a coordinator at work.
package enum OpenAPI {
    /// The document, YAML in UTF-8.
    package static var document: [UInt8] { PackageResources.openapi_yaml }
}
