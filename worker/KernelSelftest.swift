import Archive
import Codec
package import JobProtocol
import Kernels
import Raster

/// Whether this machine calculates as every other does.
package enum KernelSelftest {
    /// Checks every instruction set and every installed model; takes seconds.
    package static func checks() -> [SelftestCheck] { kernels() + models() }

    /// Every instruction set must give the golden result of a small network.
    private static func kernels() -> [SelftestCheck] {
        InstructionSet.supported.map { isa in
            let digest = KernelProbe.digest(isa)
            let isOK = digest == KernelProbe.golden
            return SelftestCheck(
                name: "kernels \(isa.rawValue)",
                isOK: isOK,
                detail: isOK
                    ? "the golden numbers, \(digest.prefix(16))"
                    : "\(digest) instead of \(KernelProbe.golden)",
                next: isOK
                    ? nil
                    : "do not compress on this machine; force another set with FLOWPACK_ISA, and report this"
            )
        }
    }

    /// A small image must give the same bytes with a model on every instruction set, and come back.
    private static func models() -> [SelftestCheck] {
        ModelStore.profiles().map { profile in
            let name = "model \(profile)"
            do {
                return try check(profile, name)
            } catch {
                return SelftestCheck(
                    name: name,
                    isOK: false,
                    detail: (error as? ModelStoreError)?.message ?? "\(error)",
                    next: "replace the model file"
                )
            }
        }
    }

    private static func check(_ profile: String, _ name: String) throws -> SelftestCheck {
        let image = KernelProbe.image
        let path = try ModelStore.path(ofModel: profile)
        let bytes = try ModelStore.read(path)
        var payloads: Set<[UInt8]> = []
        var id = ""
        for isa in InstructionSet.supported {
            let model = try ModelStore(instructionSet: isa).load(bytes, path: path)
            id = model.id
            let payload = model.codec.analyse([image]).encode { _ in true }
            payloads.insert(payload)
            let decoded = try model.verifier.decode(
                payload,
                count: 1,
                width: image.width,
                height: image.height
            )
            guard decoded == [image], payloads.count == 1 else {
                return SelftestCheck(
                    name: name,
                    isOK: false,
                    detail: "\(isa.rawValue) differs",
                    next: "do not compress on this machine, and report this"
                )
            }
        }
        return SelftestCheck(
            name: name,
            isOK: true,
            detail: "\(byteCount(bytes.count)), \(id.prefix(16)), the same bytes on every set"
        )
    }
}
