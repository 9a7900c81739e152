import ArgumentParser
import Kernels
import Worker

struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures this machine.",
        subcommands: [BenchKernels.self]
    )
}

struct BenchKernels: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels",
        abstract: "Measures the convolutions of every instruction set against the core's peak.",
        discussion: "One thread, processor time; the peak is the dot product on registers alone."
    )

    @Option(help: "Seconds to measure each convolution.")
    var seconds = 0.5

    @Flag(help: "Print the result as JSON.")
    var json = false

    private struct Row: Encodable {
        let shape: String
        let isa: String
        let threads: Int
        let gmacsPerSecond: Double
        /// nil for the reference, which has no peak of its own.
        let shareOfPeak: Double?

        enum CodingKeys: String, CodingKey {
            case shape, isa, threads
            case gmacsPerSecond = "gmacs_per_second"
            case shareOfPeak = "share_of_peak"
        }
    }

    /// What networks are made of: first layers, residual layers, last layers.
    private static let shapes: [KernelBenchmark.Shape] = [
        .init(
            kernelSize: 3,
            inputChannels: 64,
            outputChannels: 64,
            height: 32,
            width: 32,
            images: 4
        ),
        .init(
            kernelSize: 3,
            inputChannels: 32,
            outputChannels: 32,
            height: 32,
            width: 32,
            images: 8
        ),
        .init(
            kernelSize: 1,
            inputChannels: 64,
            outputChannels: 64,
            height: 32,
            width: 32,
            images: 4
        ),
        .init(
            kernelSize: 3,
            inputChannels: 9,
            outputChannels: 32,
            height: 32,
            width: 32,
            images: 8,
            input: .latents
        ),
    ]

    func validate() throws {
        guard seconds > 0, seconds <= 60 else {
            throw ValidationError("--seconds takes more than 0, at most 60.")
        }
    }

    func run() async throws {
        var rows: [Row] = []
        for isa in InstructionSet.supported {
            let peak = KernelBenchmark.peakGMACsPerSecond(isa)
            for shape in Self.shapes {
                let rate = KernelBenchmark.measure(shape, isa: isa, seconds: seconds)
                    .bestGMACsPerSecond
                rows.append(
                    Row(
                        shape: Self.name(shape),
                        isa: isa.rawValue,
                        threads: 1,
                        gmacsPerSecond: rate,
                        shareOfPeak: peak > 0 ? rate / peak : nil
                    )
                )
            }
        }
        if json {
            Console.print(json: rows)
        } else {
            let cells = rows.map { row in
                [
                    row.shape, row.isa, decimals(row.gmacsPerSecond, 1),
                    row.shareOfPeak.map { "\(decimals($0 * 100, 1)) %" } ?? "-",
                ]
            }
            Console.table([["SHAPE", "ISA", "GMAC/S", "OF PEAK"]] + cells)
        }
    }

    private static func name(_ shape: KernelBenchmark.Shape) -> String {
        let kernel = "\(shape.kernelSize)x\(shape.kernelSize)"
        let input = shape.input == .latents ? " latents" : ""
        return
            "\(kernel) \(shape.inputChannels)→\(shape.outputChannels)\(input) \(shape.images)×\(shape.height)×\(shape.width)"
    }
}
