import HTTPTypes
import Hummingbird
import JobProtocol
import NIOCore
import S3

// Bytes for workers without a shared folder.
extension Handlers {
    /// Answers with samples of a lease as frames.
    func samples(_ request: Request, _ parameter: String) async throws -> Response {
        let lease = try await coordinator.queue.held(try id(parameter))
        guard let index = Int(request.uri.queryParameters[Route.fromParameter[...]] ?? "0"),
            lease.samples.indices.contains(index)
        else {
            throw Problem.malformed(
                "The parameter \(Route.fromParameter) is no sample of \(lease.lease)."
            )
        }
        try await BlobStore.checkSource(lease)
        return .bytes { writer in
            try await BlobStore.stream(samplesOf: lease, from: index) { try await writer.write($0) }
        }
    }

    /// Answers with a range of the model of a lease's job.
    func blob(_ request: Request, _ parameter: String) async throws -> Response {
        let lease = try await self.lease(of: request)
        guard parameter == lease.modelID else {
            throw Problem(
                .notFound,
                "\(parameter) is not the model of \(lease.lease).",
                next: "Ask for \(lease.modelID)."
            )
        }
        let path = lease.destination + "/" + DatasetLayout.modelFile(id: lease.modelID)
        let file: BlobStore.File
        do {
            file = try await BlobStore.onItsThreads { try BlobStore.File(path) }
        } catch {
            throw Problem(
                .modelMissing,
                "\(path) cannot be read on the coordinator's machine: \(error).",
                next: "Copy the model there."
            )
        }
        guard let range = RequestedRange.bytes(request.headers[.range], of: file.bytes) else {
            var response = Problem(
                .rangeNotSatisfiable,
                "The model has \(file.bytes) bytes.",
                next: "Ask for bytes=0- to have all of them."
            ).response
            response.headers[.contentRange] = "bytes */\(file.bytes)"
            return response
        }
        var response = Response.bytes(count: range.count) { writer in
            try await BlobStore.stream(file, range) { try await writer.write($0) }
        }
        response.headers[.acceptRanges] = "bytes"
        if range.count < file.bytes {
            response.status = .partialContent
            response.headers[.contentRange] = ContentRange(range, of: file.bytes).description
        }
        return response
    }

    /// Tells how much of a lease's output has come.
    func blobState(_ request: Request, _ parameter: String) async throws -> Response {
        let upload = BlobStore.Upload(
            try digest(parameter),
            for: try await self.lease(of: request)
        )
        return try await uploadState(upload)
    }

    /// Takes a part of a lease's output, or all of it.
    func upload(_ request: Request, _ parameter: String) async throws -> Response {
        let upload = BlobStore.Upload(
            try digest(parameter),
            for: try await self.lease(of: request)
        )
        guard let part = request.headers[.contentRange].flatMap(ContentRange.init) else {
            throw Problem.malformed("An upload has a header Content-Range: bytes first-last/total.")
        }
        if try await !BlobStore.onItsThreads({ try upload.state().isComplete }) {
            try await BlobStore.onItsThreads { try upload.admit(part) }
            let end = try await receive(request, part, upload)
            if end == part.total {
                try await BlobStore.onItsThreads { try upload.finish() }
            }
        }
        return try await uploadState(upload)
    }

    /// Writes a body as it comes, and returns where it ended.
    private func receive(
        _ request: Request,
        _ part: ContentRange,
        _ upload: BlobStore.Upload
    ) async throws -> Int64 {
        var offset = part.bytes.lowerBound
        var waiting = ByteBuffer()
        func flush() async throws {
            let (chunk, start) = (waiting, offset)
            guard start + Int64(chunk.readableBytes) <= part.bytes.upperBound else {
                throw Problem.malformed("The body has more bytes than \(part) says.")
            }
            try await BlobStore.onItsThreads { try upload.write(chunk, at: start) }
            offset += Int64(chunk.readableBytes)
            waiting.clear()
        }
        for try await bytes in request.body {
            waiting.writeImmutableBuffer(bytes)
            if waiting.readableBytes >= BlobStore.chunkBytes { try await flush() }
        }
        try await flush()
        return offset
    }

    private func uploadState(_ upload: BlobStore.Upload) async throws -> Response {
        let state = try await BlobStore.onItsThreads { try upload.state() }
        var response = Response(status: .ok)
        response.headers[.uploadOffset] = String(state.bytes)
        response.headers[.uploadComplete] = state.isComplete ? "?1" : "?0"
        return response
    }

    /// The lease that a request for a blob names, which its worker must hold.
    private func lease(of request: Request) async throws -> Lease {
        let text = request.uri.queryParameters[Route.leaseParameter[...]].map(String.init) ?? ""
        guard let lease = LeaseID(text) else {
            throw Problem.malformed("The parameter \(Route.leaseParameter) is no lease.")
        }
        let held = try await coordinator.queue.held(lease)
        guard S3Location(held.destination) == nil else {
            throw Problem.malformed("The dataset of \(lease) lies in S3, not on this machine.")
        }
        return held
    }

    private func digest(_ parameter: String) throws -> String {
        guard parameter.isDigest else {
            throw Problem.malformed("A blob's name is 64 lower-case hexadecimal digits.")
        }
        return parameter
    }
}

extension HTTPField.Name {
    fileprivate static let uploadOffset = known(BlobHeader.offset)
    fileprivate static let uploadComplete = known(BlobHeader.isComplete)

    private static func known(_ name: String) -> HTTPField.Name {
        guard let field = HTTPField.Name(name) else {
            preconditionFailure("\(name) is the name of a field")
        }
        return field
    }
}

extension Response {
    /// An answer whose body comes piece by piece; without a count, in chunks.
    fileprivate static func bytes(
        count: Int? = nil,
        _ write: @escaping @Sendable (inout any ResponseBodyWriter) async throws -> Void
    ) -> Response {
        Response(
            status: .ok,
            headers: [.contentType: "application/octet-stream"],
            body: ResponseBody(contentLength: count) { writer in
                try await write(&writer)
                try await writer.finish(nil)
            }
        )
    }
}
