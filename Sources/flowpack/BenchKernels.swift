import ArgumentParser
import Kernels
import Worker

struct BenchKernels: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels",
        abstract: "Measures the convolutions of every instruction set against the core's peak.",
        discussion: """
            One thread, processor time; the peak is the set's dot product of bytes (where it has \
            none: of Int16) on registers alone. First layers read Int16: with a dot product of \
            bytes they can reach half of the peak.
            """
    )

    /// Time for each of the many measurements of the peak.
    private static let peakSeconds = 0.05

    @OptionGroup var sets: InstructionSetOptions

    @OptionGroup var options: BenchOptions

    private struct Row: Encodable {
        let shape: String
        let isa: String
        let threads = 1
        let gmacsPerSecond: Double
        /// None for the reference, which has no peak of its own.
        let shareOfPeak: ShareOfPeak

        enum CodingKeys: String, CodingKey {
            case shape, isa, threads
            case gmacsPerSecond = "gmacs_per_second"
            case shareOfPeak = "share_of_peak"
        }
    }

    /// What networks are made of; maps of 8×8 to 32×32 are levels of a block of 64×64 images.
    private static let shapes: [KernelBenchmark.Shape] = [
        shape(3, 64, 64, side: 4, images: 4),
        shape(3, 64, 64, side: 8, images: 16),
        shape(3, 64, 64, side: 16, images: 16),
        shape(3, 64, 64, side: 32, images: 4),
        shape(3, 128, 128, side: 16, images: 16),
        shape(3, 64, 256, side: 16, images: 16),
        shape(3, 32, 512, side: 16, images: 16),
        shape(1, 64, 64, side: 16, images: 16),
        shape(1, 128, 128, side: 16, images: 16),
        shape(3, 16, 16, side: 32, images: 16),
        shape(3, 32, 32, side: 32, images: 8),
        shape(3, 48, 48, side: 32, images: 8),
        shape(3, 48, 48, side: 32, images: 8, .residual),
        shape(3, 80, 80, side: 16, images: 16),
        shape(3, 9, 16, side: 32, images: 16, .first),
        shape(3, 3, 48, side: 32, images: 16, .first),
        shape(3, 9, 48, side: 32, images: 16, .first),
        shape(3, 16, 3, side: 32, images: 16, .last),
        shape(3, 48, 6, side: 32, images: 16, .last),
        shape(3, 80, 6, side: 32, images: 16, .last),
        shape(3, 9, 3, side: 32, images: 16, .shortcut),
        shape(3, 9, 6, side: 32, images: 16, .shortcut),
        shape(3, 3, 6, side: 32, images: 16, .shortcut),
    ]

    private static func shape(
        _ kernelSize: Int,
        _ inputChannels: Int,
        _ outputChannels: Int,
        side: Int,
        images: Int,
        _ place: KernelBenchmark.Place = .inner
    ) -> KernelBenchmark.Shape {
        KernelBenchmark.Shape(
            kernelSize: kernelSize,
            inputChannels: inputChannels,
            outputChannels: outputChannels,
            height: side,
            width: side,
            images: images,
            place: place
        )
    }

    func run() async throws {
        let sets = sets.isa?.elements ?? InstructionSet.supported
        let rows = sets.flatMap { isa in
            // The clock of a core changes: its peak is looked for all the time.
            let rates = Self.shapes.map { shape in
                (
                    peak: KernelBenchmark.peakGMACsPerSecond(isa, seconds: Self.peakSeconds),
                    own: KernelBenchmark.measure(shape, isa: isa, seconds: options.seconds)
                        .bestGMACsPerSecond
                )
            }
            let peak = rates.map(\.peak).max() ?? 0
            return zip(Self.shapes, rates).map { shape, rate in
                Row(
                    shape: Self.name(shape),
                    isa: isa.rawValue,
                    gmacsPerSecond: rate.own,
                    shareOfPeak: ShareOfPeak(value: peak > 0 ? rate.own / peak : nil)
                )
            }
        }
        if options.json {
            Console.print(json: BenchReport(rows: rows))
        } else {
            let cells = rows.map { row in
                [row.shape, row.isa, decimals(row.gmacsPerSecond, 1), row.shareOfPeak.text]
            }
            Console.table([["SHAPE", "ISA", "GMAC/S", "OF PEAK"]] + cells)
        }
    }

    /// Such as `3x3 64→64 16×16×16`: kernel, channels, images × rows × columns.
    private static func name(_ shape: KernelBenchmark.Shape) -> String {
        let kernel = "\(shape.kernelSize)x\(shape.kernelSize)"
        let channels = "\(shape.inputChannels)→\(shape.outputChannels)"
        let map = "\(shape.images)×\(shape.height)×\(shape.width)"
        let place = shape.place == .inner ? "" : " \(shape.place.rawValue)"
        return "\(kernel) \(channels) \(map)\(place)"
    }
}
