import JobProtocol
import Kernels
import TestSupport
import Testing
import Worker

struct ModelStoreTests {
    @Test func theUsersFolderComesFirst() throws {
        let folder = try TemporaryFolder()
        try folder.write([1], "fast.safetensors")
        try folder.write([1], "mine.safetensors")
        let environment = [ModelStore.folderVariable: folder.path]

        let path = try ModelStore.path(ofModel: "fast", environment: environment)

        #expect(path == "\(folder.path)/fast.safetensors")
        #expect(try ModelStore.path(ofModel: "fast", environment: [:]) != path)
        #expect(ModelStore.profiles(environment: environment).contains("mine"))
    }

    @Test(arguments: ["nonsense", "./nonsense", "nonsense.safetensors"])
    func aModelThatIsNotThereIsNotFound(name: String) {
        let error = #expect(throws: ModelStoreError.self) {
            try ModelStore.path(ofModel: name, environment: [:])
        }
        #expect(error?.reason == .notFound)
    }

    @Test func aModelOfADatasetIsCheckedAgainstItsID() async throws {
        let folder = try TemporaryFolder()
        let store = ModelStore(instructionSet: .best)
        let model = try store.load(ModelBuilder(seed: 1).bytes(), path: "built")
        let other = ModelBuilder(seed: 2).bytes()
        let wanted = String(repeating: "a", count: 64)
        try folder.write(other, DatasetLayout.modelFile(id: wanted))

        var lease = try Workplace().lease([], modelID: wanted)
        lease.destination = folder.path
        let plane = FolderPlane(lease)

        #expect(try await store.model(id: model.id, from: plane).id == model.id)
        let error = await #expect(throws: ModelStoreError.self) {
            try await store.model(id: wanted, from: plane)
        }
        #expect(error?.reason == .unusable)
    }

    @Test func bytesThatAreNoModelAreUnusable() {
        let error = #expect(throws: ModelStoreError.self) {
            try ModelStore(instructionSet: .best).load([1, 2, 3], path: "some/file")
        }
        #expect(error?.reason == .unusable)
        #expect(error?.message.contains("some/file") == true)
    }
}
