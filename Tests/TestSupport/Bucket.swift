import Foundation
import Synchronization

/// An S3 service in memory that believes every signature, for tests of its clients.
package final class Bucket: Sendable {
    package struct Object: Equatable, Sendable {
        package var content: String
        /// In Base64, where the object was put with it.
        package var checksum: String?

        package init(_ content: String, checksum: String? = nil) {
            self.content = content
            self.checksum = checksum
        }
    }

    private struct State {
        /// By path, as it is in the URL.
        var objects: [String: Object] = [:]
        /// Parts by number, by id of the upload; and the path that each is for.
        var uploads: [String: (path: String, parts: [Int: String])] = [:]
    }

    private final class Service: Sendable {
        let state = Mutex(State())
    }

    private let service: Service
    package let server: SocketServer

    package init() {
        let service = Service()
        self.service = service
        server = SocketServer { request, index in
            service.state.withLock { Self.answer(request, index, &$0) }
        }
    }

    /// The object at a path such as `/bucket/key`, escaped as in URLs; nil if there is none.
    package subscript(path: String) -> Object? {
        get { service.state.withLock { $0.objects[path] } }
        set { service.state.withLock { $0.objects[path] = newValue } }
    }

    /// Paths of all objects, sorted.
    package var paths: [String] { service.state.withLock { $0.objects.keys.sorted() } }
    /// Uploads in parts that were begun and not completed.
    package var openUploads: Int { service.state.withLock(\.uploads.count) }

    private static func answer(
        _ request: SocketServer.Request,
        _ index: Int,
        _ state: inout State
    ) -> SocketServer.Reply {
        let target = request.path.split(separator: "?", maxSplits: 1).map(String.init)
        let path = target[0]
        let query = parameters(target.count == 2 ? target[1] : "")
        let body = String(decoding: request.body, as: UTF8.self)
        let upload = query["uploadId"]
        switch request.method {
        case "HEAD",
            "GET" where query["uploads"] == nil:
            return read(path, request, state)
        case "GET":
            return list(state)
        case "POST" where upload == nil:
            state.uploads["upload-\(index)"] = (path, [:])
            return .response(status: 200, body: "<a><UploadId>upload-\(index)</UploadId></a>")
        case "PUT" where upload != nil:
            guard let upload, state.uploads[upload] != nil else { return .response(status: 404) }
            state.uploads[upload]?.parts[query["partNumber"].flatMap { Int($0) } ?? 0] = body
            return .response(status: 200, headers: ["ETag": "\"\(index)\""])
        case "DELETE":
            let isThere = upload.flatMap { state.uploads.removeValue(forKey: $0) } != nil
            return .response(status: isThere ? 204 : 404)
        case "PUT", "POST":
            guard request.headers["if-none-match"] == nil || state.objects[path] == nil else {
                return .response(status: 412)
            }
            var object = Object(body, checksum: request.headers["x-amz-checksum-sha256"])
            if let upload {
                guard let whole = state.uploads.removeValue(forKey: upload) else {
                    return .response(status: 404)
                }
                object.content = whole.parts.sorted { $0.key < $1.key }.map(\.value).joined()
            }
            state.objects[path] = object
            return .response(status: 200)
        default:
            return .response(status: 405)
        }
    }

    private static func read(
        _ path: String,
        _ request: SocketServer.Request,
        _ state: State
    ) -> SocketServer.Reply {
        guard let object = state.objects[path] else { return .response(status: 404) }
        var headers = ["ETag": "\"\(object.content.hashValue)\""]
        if let expected = request.headers["if-match"], expected != headers["ETag"] {
            return .response(status: 412)
        }
        headers["x-amz-checksum-sha256"] = object.checksum
        let bytes = Array(object.content.utf8)
        guard let range = request.headers["range"] else {
            return .response(status: 200, headers: headers, body: object.content)
        }
        let bounds = range.split { "=-".contains($0) }.compactMap { Int($0) }
        let last = min(bounds.count == 2 ? bounds[1] : bytes.count - 1, bytes.count - 1)
        headers["Content-Range"] = "bytes \(bounds[0])-\(last)/\(bytes.count)"
        let part = String(decoding: bytes[bounds[0]...last], as: UTF8.self)
        return .response(status: 206, headers: headers, body: part)
    }

    private static func list(_ state: State) -> SocketServer.Reply {
        let uploads = state.uploads.map { id, upload in
            // Without the bucket's name.
            let key = upload.path.split(separator: "/").dropFirst().joined(separator: "/")
            return "<Upload><Key>\(key)</Key><UploadId>\(id)</UploadId></Upload>"
        }
        return .response(status: 200, body: "<a>\(uploads.joined())</a>")
    }

    private static func parameters(_ query: String) -> [String: String] {
        query.split(separator: "&").reduce(into: [:]) { parameters, part in
            let sides = part.split(separator: "=", maxSplits: 1).map(String.init)
            parameters[sides[0]] = sides.count == 2 ? sides[1] : ""
        }
    }
}
