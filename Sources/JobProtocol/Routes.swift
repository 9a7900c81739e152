/// What a token may be used for.
package enum TokenScope: String, CaseIterable, Sendable {
    case read
    case submit
    case worker
    case admin

    /// Whether a token of this scope opens a route that asks for another.
    package func allows(_ scope: TokenScope) -> Bool {
        switch (self, scope) {
        case (.admin, _), (.submit, .read): true
        default: self == scope
        }
    }
}

/// Every path of the coordinator, the one list that server and client use.
package enum Route: String, CaseIterable, Sendable {
    case submit, jobs, job, explain, events, shards, pause, resume, cancel, retry
    case workers, register, heartbeat, selftest, pauseWorker, resumeWorker, drainWorker
    case lease, complete, clear, fail, release
    case samples, blob, blobState, upload, uploadURLs
    case health, readiness, metrics, version, openapi
}

extension Route {
    package enum Method: String, Sendable {
        case get = "GET"
        case head = "HEAD"
        case post = "POST"
        case put = "PUT"
    }

    package var method: Method {
        switch self {
        case .jobs, .job, .explain, .events, .shards, .workers, .samples, .blob, .health,
            .readiness, .metrics, .version, .openapi:
            .get
        case .blobState: .head
        case .upload: .put
        case .submit, .pause, .resume, .cancel, .retry, .register, .heartbeat, .selftest,
            .pauseWorker, .resumeWorker, .drainWorker, .lease, .complete, .clear, .fail, .release,
            .uploadURLs:
            .post
        }
    }

    /// The path, with at most one `{parameter}`.
    package var template: String {
        switch self {
        case .submit, .jobs: "/v1/jobs"
        case .job: "/v1/jobs/{job}"
        case .explain: "/v1/jobs/{job}/explain"
        case .events: "/v1/jobs/{job}/events"
        case .shards: "/v1/jobs/{job}/shards"
        case .pause: "/v1/jobs/{job}/pause"
        case .resume: "/v1/jobs/{job}/resume"
        case .cancel: "/v1/jobs/{job}/cancel"
        case .retry: "/v1/jobs/{job}/retry"
        case .workers, .register: "/v1/workers"
        case .heartbeat: "/v1/workers/{worker}/heartbeat"
        case .selftest: "/v1/workers/{worker}/selftest"
        case .pauseWorker: "/v1/workers/{worker}/pause"
        case .resumeWorker: "/v1/workers/{worker}/resume"
        case .drainWorker: "/v1/workers/{worker}/drain"
        case .lease: "/v1/leases"
        case .complete: "/v1/leases/{lease}/complete"
        case .clear: "/v1/leases/{lease}/clear"
        case .fail: "/v1/leases/{lease}/fail"
        case .release: "/v1/leases/{lease}/release"
        case .samples: "/v1/leases/{lease}/samples"
        case .blob, .blobState, .upload: "/v1/blobs/{sha256}"
        case .uploadURLs: "/v1/leases/{lease}/upload"
        case .health: "/healthz"
        case .readiness: "/readyz"
        case .metrics: "/metrics"
        case .version: "/version"
        case .openapi: "/openapi.yaml"
        }
    }

    /// The scope that a token needs; nil where none is asked for.
    package var scope: TokenScope? {
        switch self {
        case .jobs, .job, .explain, .events, .shards, .workers, .metrics: .read
        case .submit, .pause, .resume, .cancel, .retry: .submit
        case .register, .heartbeat, .selftest, .lease, .complete, .clear, .fail, .release,
            .samples, .blob, .blobState, .upload, .uploadURLs:
            .worker
        case .pauseWorker, .resumeWorker, .drainWorker: .admin
        case .health, .readiness, .version, .openapi: nil
        }
    }

    /// The name of the path's parameter; nil if it has none.
    package var parameter: String? {
        guard let open = template.firstIndex(of: "{"), let close = template.firstIndex(of: "}")
        else { return nil }
        return String(template[template.index(after: open)..<close])
    }

    /// Whether a path is one of the route's, whatever its parameter is.
    package func matches(_ path: String) -> Bool {
        let names = template.split(separator: "/")
        let parts = path.split(separator: "/")
        return names.count == parts.count
            && zip(names, parts).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
    }

    /// Returns the path with its parameter filled in: the job, worker or lease, whose text needs no
    /// escaping in a path.
    package func path(_ value: (any LosslessStringConvertible)? = nil) -> String {
        guard let parameter else { return template }
        guard let value else { preconditionFailure("\(template) needs its parameter") }
        return template.split(separator: "{\(parameter)}", omittingEmptySubsequences: false)
            .joined(separator: value.description)
    }

    /// Query parameter of `events`: only events with a larger id; of `shards`: only shards with a
    /// larger ordinal.
    package static let afterParameter = "after"
    /// Query parameter of `shards`: only shards in this state.
    package static let stateParameter = "state"
    /// Query parameter of `samples`: the number of the first one that is wanted.
    package static let fromParameter = "from"
    /// Query parameter of the routes of blobs: the lease that the blob is for.
    package static let leaseParameter = "lease"
    /// Header of `submit` that carries `SubmitRequest.idempotencyKey`, which stays out of the body.
    package static let idempotencyKeyHeader = "Idempotency-Key"
}
