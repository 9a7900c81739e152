package import Codec
package import Flow
import Foundation
import JobProtocol
package import Kernels
import Synchronization

/// A model that cannot be had, and what to do about it.
package struct ModelStoreError: Error, Equatable, Sendable {
    package enum Reason: Sendable {
        /// No file of this name or profile.
        case notFound
        /// The file cannot be read at this moment.
        case unreadable
        /// The file is no usable model, or not the one that was asked for.
        case unusable
    }

    package let reason: Reason
    package let message: String
}

/// Finds model files, and keeps those in use loaded.
package final class ModelStore: Sendable {
    /// A model with the codecs that encode with it and check the result.
    package struct Loaded: Sendable {
        package let codec: BlockCodec
        /// The same model on another instruction set.
        package let verifier: BlockCodec
        package var model: FlowModel { codec.model }
        /// SHA-256 of the model file, 64 lower-case hexadecimal digits.
        package var id: String { codec.model.id }
    }

    /// Largest model file, in bytes.
    package static let fileLimitBytes = 256 << 20
    /// Folder of model files that comes before the built-in ones.
    package static let folderVariable = "FLOWPACK_MODELS"
    /// Loaded models that are kept; a worker sees one or two at a time.
    private static let loadedLimit = 4
    private static let fileExtension = ".safetensors"

    package let instructionSet: InstructionSet
    /// By id, the most recently used last.
    private let loaded = Mutex<[(id: String, model: Loaded)]>([])

    /// - Parameter instructionSet: What to encode with; `InstructionSet.verifier` of it checks.
    package init(instructionSet: InstructionSet) {
        self.instructionSet = instructionSet
    }

    /// The model of an id out of a dataset, loaded at most once.
    package func model(
        id: String,
        from plane: any DataPlane
    ) async throws(ModelStoreError) -> Loaded {
        if let model = cached(id) { return model }
        let model = try load(try await plane.model(), path: plane.modelPath)
        guard model.id == id else {
            throw ModelStoreError(
                reason: .unusable,
                message:
                    "\(plane.modelPath) is another model than \(id): its SHA-256 is \(model.id)."
            )
        }
        return model
    }

    /// Checks a model file's bytes and prepares its codecs; messages name `path`.
    package func load(_ bytes: [UInt8], path: String) throws(ModelStoreError) -> Loaded {
        let model: Loaded
        do {
            let flow = try FlowModel(bytes: bytes)
            model = Loaded(
                codec: try BlockCodec(engine: makeEngine(model: flow, isa: instructionSet)),
                verifier: try BlockCodec(
                    engine: makeEngine(model: flow, isa: instructionSet.verifier)
                )
            )
        } catch {
            throw ModelStoreError(
                reason: .unusable,
                message: "\(path) is no usable model: \(error)"
            )
        }
        loaded.withLock { loaded in
            loaded.removeAll { $0.id == model.id }
            if loaded.count == Self.loadedLimit { loaded.removeFirst() }
            loaded.append((model.id, model))
        }
        return model
    }

    private func cached(_ id: String) -> Loaded? {
        loaded.withLock { loaded in
            guard let index = loaded.firstIndex(where: { $0.id == id }) else { return nil }
            let found = loaded.remove(at: index)
            loaded.append(found)
            return found.model
        }
    }

    /// Reads a model file whole.
    package static func read(_ path: String) throws(ModelStoreError) -> [UInt8] {
        do {
            return try readFile(path, limitBytes: fileLimitBytes)
        } catch {
            throw ModelStoreError(
                reason: error.isNotFound ? .notFound : .unreadable,
                message: "\(error)"
            )
        }
    }

    /// Returns the path that a user's choice of model means.
    ///
    /// A name with "/" or ".safetensors" is a file; anything else is a profile, looked for in the
    /// folder of `FLOWPACK_MODELS`, then in the folders of built-in models.
    package static func path(
        ofModel name: String,
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws(ModelStoreError) -> String {
        if name.contains("/") || name.hasSuffix(fileExtension) {
            guard FileManager.default.fileExists(atPath: name) else {
                throw ModelStoreError(reason: .notFound, message: "There is no model file \(name).")
            }
            return name
        }
        let folders = modelFolders(environment: environment)
        for folder in folders {
            let path = "\(folder)/\(name)\(fileExtension)"
            if FileManager.default.fileExists(atPath: path) { return path }
        }
        let known = profiles(environment: environment)
        throw ModelStoreError(
            reason: .notFound,
            message: known.isEmpty
                ? "There is no model \"\(name)\": no model files in \(folders.joined(separator: ", "))."
                : "There is no model \"\(name)\"; there are \(known.joined(separator: ", "))."
        )
    }

    /// The names of the profiles that are installed.
    package static func profiles(
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) -> [String] {
        let files = modelFolders(environment: environment).flatMap {
            (try? FileManager.default.contentsOfDirectory(atPath: $0)) ?? []
        }
        let names = files.filter { $0.hasSuffix(fileExtension) }
            .map { String($0.dropLast(fileExtension.count)) }
        return Set(names).sorted()
    }

    /// Folders that may hold models: the user's, the one that the package manager puts beside the
    /// program, the one of an installation.
    private static func modelFolders(environment: [String: String]) -> [String] {
        let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        let folder = program.deletingLastPathComponent()
        var folders = [
            folder.appending(path: "flowpack_Worker.resources/models").path,
            folder.deletingLastPathComponent().appending(path: "share/flowpack/models").path,
        ]
        if let own = environment[folderVariable], !own.isEmpty { folders.insert(own, at: 0) }
        return folders
    }
}
