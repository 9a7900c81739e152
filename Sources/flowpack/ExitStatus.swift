import Archive
import ArgumentParser
import Coordinator
import CoordinatorClient
import Foundation
import JobProtocol
import Kernels
import S3
import Worker

/// How the program ended; the numbers are part of its interface.
enum ExitStatus: Int32 {
    case error = 1
    case usage = 2
    case locked = 3
    case notFound = 4
    case notAllowed = 5
    case unreachable = 6
    case finishedWithProblems = 7
    case integrityFailure = 8
    case cancelled = 9
    case noSpace = 10
    case incompatible = 11
    case interrupted = 130

    func exit() -> Never {
        Foundation.exit(rawValue)
    }

    /// For a command that has already said everything.
    var code: ExitCode { ExitCode(rawValue) }
}

/// Why a command did not do what it was asked, and what to type next.
struct CommandFailure: Error {
    let status: ExitStatus
    /// What, where, why.
    let message: String
    let next: String?

    init(_ status: ExitStatus, _ message: String, next: String? = nil) {
        self.status = status
        self.message = message
        self.next = next
    }

    /// The failure that an error of a library means; nil for an error of the argument parser.
    init?(_ error: any Error) {
        switch error {
        case let failure as CommandFailure:
            self = failure
        case let error as APIError:
            self.init(error)
        case let error as StartError:
            let status: ExitStatus =
                switch error {
                case .locked: .locked
                case .newer: .incompatible
                case .damaged: .integrityFailure
                case .unusable, .refused: .error
                }
            self.init(status, error.message)
        case let error as FileSystemError:
            self.init(
                error.isNoSpace ? .noSpace : error.isNotFound ? .notFound : .error,
                "\(error).",
                next: error.isNoSpace ? "free space, then type the same command again" : nil
            )
        case let error as ModelStoreError:
            self.init(
                error.reason == .notFound ? .notFound : .error,
                error.message,
                next: "flowpack selftest"
            )
        case let error as ArchiveError:
            self.init(error)
        case let error as ClientConfigurationError:
            self.init(.usage, error.message)
        case let error as S3ConfigurationError:
            self.init(.usage, error.message)
        case let error as S3Error:
            self.init(error.isRetryable ? .unreachable : .error, error.message)
        case let error as InstructionSetError:
            self.init(.usage, "\(error).", next: "flowpack selftest")
        case is CancellationError:
            self.init(.interrupted, "interrupted.")
        default:
            return nil
        }
    }

    private init(_ error: APIError) {
        switch error {
        case .unreachable:
            self.init(
                .unreachable,
                error.message,
                next: "check --coordinator, and that flowpack-coordinator runs there"
            )
        case .unintelligible:
            self.init(.error, error.message)
        case .refused(let problem):
            let status: ExitStatus =
                switch problem.code {
                case .unauthenticated, .forbidden: .notAllowed
                case .notFound, .sourceMissing, .modelMissing: .notFound
                case .incompatible: .incompatible
                case .unavailable: .unreachable
                default: .error
                }
            self.init(status, problem.detail, next: problem.next)
        }
    }

    private init(_ error: ArchiveError) {
        let status: ExitStatus =
            switch error.reason {
            case .unsupportedVersion: .incompatible
            case .unreadable: .notFound
            case .otherModel: .error
            default: .integrityFailure
            }
        self.init(status, "\(error).")
    }
}
