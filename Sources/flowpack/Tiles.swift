import Dataset
import Raster

/// Square images to measure with.
enum Tiles {
    /// Cuts tiles out of the images of a folder, equally many of each as far as they go.
    ///
    /// - Parameters:
    ///   - path: A folder of 8-bit RGB images, PNG or PNM; other files are passed over.
    ///   - side: Rows and columns of a tile.
    ///   - count: The number of tiles.
    /// - Returns: `count` tiles.
    /// - Throws: When a file cannot be read, or the folder holds too few tiles.
    static func cut(fromFolder path: String, side: Int, count: Int) throws -> [Image] {
        let folder = SourceFolder(path: path)
        var scan = folder.entries()
        var images: [Image] = []
        while images.count < count, let entry = try scan.next() {
            guard case .sample(let name, _) = entry,
                case .image(let decoded) = classify(name: name, bytes: try folder.read(name))
                    .content
            else { continue }
            images.append(decoded.image)
        }
        let available = images.map { $0.tileCount(side: side) }
        // The fewest tiles of each image that are enough.
        guard
            let share = (1...count).first(where: { share in
                available.reduce(0) { $0 + min($1, share) } >= count
            })
        else {
            throw CommandFailure(
                .error,
                "\(path) holds fewer than \(count) RGB tiles of \(side)×\(side).",
                next: "give larger images, or a smaller --batch or --size"
            )
        }
        let tiles = zip(images, available).flatMap { image, available in
            (0..<min(available, share)).map { number in
                image.tile(number * available / min(available, share), side: side)
            }
        }
        return Array(tiles[..<count])
    }

    /// Makes up tiles that cost a model about as many bits as photographs: noise of every wavelength,
    /// the same in all colours for the most part.
    static func synthetic(side: Int, count: Int) -> [Image] {
        (0..<count).map { index in
            let light = texture(side: side, seed: 4 * index)
            let samples = (1...3).flatMap { channel in
                zip(light, texture(side: side, seed: 4 * index + channel)).map { light, colour in
                    UInt8(min(max(128 + light + colour / 4, 0), 255))
                }
            }
            return Image(width: side, height: side, channels: 3, samples: samples)
        }
    }

    /// Sums noise of wavelengths 1, 2, 4, … 32 pixels, `[y][x]`, about 0.
    private static func texture(side: Int, seed: Int) -> [Int] {
        var sums = [Int](repeating: 0, count: side * side)
        for octave in 0...5 {
            let wavelength = 1 << octave
            for y in 0..<side {
                for x in 0..<side {
                    sums[y * side + x] +=
                        noise(x, y, wavelength: wavelength, seed: 8 * seed + octave)
                }
            }
        }
        return sums
    }

    /// Interpolates numbers that lie on a grid; long waves are the stronger ones.
    private static func noise(_ x: Int, _ y: Int, wavelength: Int, seed: Int) -> Int {
        let (column, right) = x.quotientAndRemainder(dividingBy: wavelength)
        let (row, below) = y.quotientAndRemainder(dividingBy: wavelength)
        let amplitude = wavelength + 6
        func corner(_ dx: Int, _ dy: Int) -> Int {
            hash(column + dx, row + dy, seed) % (2 * amplitude + 1) - amplitude
        }
        let top = corner(0, 0) * (wavelength - right) + corner(1, 0) * right
        let bottom = corner(0, 1) * (wavelength - right) + corner(1, 1) * right
        return (top * (wavelength - below) + bottom * below) / (wavelength * wavelength)
    }

    /// A number without a pattern, in 0…2^31 − 1 (the finaliser of MurmurHash3).
    private static func hash(_ x: Int, _ y: Int, _ seed: Int) -> Int {
        var h = UInt32(truncatingIfNeeded: x &* 73_856_093 ^ y &* 19_349_663 ^ seed &* 83_492_791)
        h = (h ^ h >> 16) &* 0x85eb_ca6b
        h = (h ^ h >> 13) &* 0xc2b2_ae35
        return Int((h ^ h >> 16) >> 1)
    }
}

extension Image {
    /// How many whole tiles it can be cut into.
    fileprivate func tileCount(side: Int) -> Int { (width / side) * (height / side) }

    /// The tile of a number, in rows from the top left.
    fileprivate func tile(_ number: Int, side: Int) -> Image {
        let (row, column) = number.quotientAndRemainder(dividingBy: width / side)
        let samples = (0..<channels).flatMap { channel in
            (0..<side).flatMap { y in
                let start = (channel * height + row * side + y) * width + column * side
                return self.samples[start..<start + side]
            }
        }
        return Image(width: side, height: side, channels: channels, samples: samples)
    }
}
