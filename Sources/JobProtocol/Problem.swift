/// Why a request was refused, as `application/problem+json` (RFC 9457).
///
/// `code` is for programs, `title` and `detail` say what and why, `next` is the thing to do now.
package struct Problem: Error, Equatable, Codable, Sendable {
    /// Media type of a problem in an HTTP answer.
    package static let mediaType = "application/problem+json"

    /// Where the code is documented, as a relative reference.
    package let type: String
    /// What happened, in one short sentence that is the same for every problem of this code.
    package let title: String
    /// HTTP status.
    package let status: Int
    /// What happened here, with the names of the things it happened to.
    package let detail: String
    package let code: Code
    /// Whether the same request may succeed later.
    package let retryable: Bool
    /// The next thing to do.
    package let next: String
    /// Seconds to wait before the next try, when the coordinator knows.
    package let retryAfterSeconds: Int?

    package init(_ code: Code, _ detail: String, next: String, retryAfterSeconds: Int? = nil) {
        self.type = "/problems/\(code.rawValue)"
        self.title = code.title
        self.status = code.status
        self.detail = detail
        self.code = code
        self.retryable = code.isRetryable
        self.next = next
        self.retryAfterSeconds = retryAfterSeconds
    }
}

extension Problem {
    /// The kinds of problem; each has one HTTP status and one title.
    package enum Code: String, CaseIterable, Sendable {
        case malformedRequest = "malformed_request"
        case unauthenticated
        case forbidden
        case notFound = "not_found"
        case methodNotAllowed = "method_not_allowed"
        case wrongState = "wrong_state"
        case destinationBusy = "destination_busy"
        case destinationComplete = "destination_complete"
        case fenced
        case nondeterminism
        case cancelled
        case incompatible
        case unknownWorker = "unknown_worker"
        case bodyTooLarge = "body_too_large"
        case rangeNotSatisfiable = "range_not_satisfiable"
        case idempotencyMismatch = "idempotency_mismatch"
        case sourceMissing = "source_missing"
        case modelMissing = "model_missing"
        case outputMismatch = "output_mismatch"
        case quotaExceeded = "quota_exceeded"
        case rateLimited = "rate_limited"
        case internalError = "internal_error"
        case unavailable
        /// A code that this version does not know; only ever read, never sent.
        case other
    }
}

extension Problem.Code {
    /// The HTTP status that goes with the code.
    package var status: Int {
        switch self {
        case .malformedRequest: 400
        case .unauthenticated: 401
        case .forbidden: 403
        case .notFound: 404
        case .methodNotAllowed: 405
        case .wrongState, .destinationBusy, .destinationComplete, .fenced, .nondeterminism,
            .cancelled, .incompatible:
            409
        case .unknownWorker: 410
        case .bodyTooLarge: 413
        case .rangeNotSatisfiable: 416
        case .idempotencyMismatch, .sourceMissing, .modelMissing, .outputMismatch: 422
        case .quotaExceeded, .rateLimited: 429
        case .internalError, .other: 500
        case .unavailable: 503
        }
    }

    /// Whether the same request may succeed later.
    package var isRetryable: Bool {
        switch self {
        case .rateLimited, .internalError, .unavailable: true
        default: false
        }
    }

    /// What happened, in one short sentence.
    package var title: String {
        switch self {
        case .malformedRequest: "The request could not be understood."
        case .unauthenticated: "The request carries no valid token."
        case .forbidden: "The token does not allow this."
        case .notFound: "There is no such thing."
        case .methodNotAllowed: "The path has other methods."
        case .wrongState: "The state does not allow this."
        case .destinationBusy: "Another job writes to this destination."
        case .destinationComplete: "The destination holds a finished dataset."
        case .fenced: "The lease is no longer held."
        case .nondeterminism: "Two workers made different bytes from the same shard."
        case .cancelled: "The job was cancelled."
        case .incompatible: "The versions do not fit together."
        case .unknownWorker: "The worker is not registered."
        case .bodyTooLarge: "The request is too large."
        case .rangeNotSatisfiable: "The range lies outside of the file."
        case .idempotencyMismatch: "The idempotency key was used for another request."
        case .sourceMissing: "The source cannot be read."
        case .modelMissing: "The model is not in the destination."
        case .outputMismatch: "The output is not what the worker said."
        case .quotaExceeded: "The token has as many open jobs as it may have."
        case .rateLimited: "The token makes requests too fast."
        case .internalError: "The coordinator failed."
        case .unavailable: "The coordinator cannot answer now."
        case .other: "Something that this version does not know."
        }
    }
}

extension Problem.Code: Codable {
    package init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        self = Problem.Code(rawValue: text) ?? .other
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

/// Why a call to the coordinator has no result.
package enum APIError: Error, Equatable, Sendable {
    /// The coordinator answered, and refused.
    case refused(Problem)
    /// No answer came: no connection, a time-out, a connection that broke.
    case unreachable(String)
    /// An answer came that is not this protocol.
    case unintelligible(String)

    /// Whether the same call may succeed later.
    package var isRetryable: Bool {
        switch self {
        case .refused(let problem): problem.retryable
        case .unreachable: true
        case .unintelligible: false
        }
    }

    /// The problem's code when the coordinator refused.
    package var code: Problem.Code? {
        guard case .refused(let problem) = self else { return nil }
        return problem.code
    }

    /// What went wrong and what to do, for people.
    package var message: String {
        switch self {
        case .refused(let problem): "\(problem.detail) \(problem.next)"
        case .unreachable(let reason): "The coordinator cannot be reached: \(reason)"
        case .unintelligible(let reason): "The answer is not a coordinator's: \(reason)"
        }
    }
}
