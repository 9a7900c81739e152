/// How a block is cut for a network: into groups of whole images, or into strips of rows.
///
/// A strip is computed with `reach` more rows on each side that is not the image's edge; those rows
/// see a wrong border (zeros instead of neighbours) and are thrown away.
package struct Tiling: Equatable, Sendable {
    /// How much scratch memory the network may take at once.
    package struct Limits: Equatable, Sendable {
        /// For several images together, in bytes: a part of an L2 cache.
        package var batchBytes = 512 << 10
        /// For one whole image, in bytes; larger images are cut into strips.
        package var imageBytes = 8 << 20

        package init() {}
    }

    /// What is computed at once.
    package struct Tile: Equatable, Sendable {
        /// The first image and the number of images.
        package let image: Int
        package let images: Int
        /// The first row that is computed.
        package let firstRow: Int
        /// The rows whose results count.
        package let rows: Range<Int>
    }

    /// A strip has at least this many times `reach` rows that count, so that at most a fifth of the
    /// work is thrown away.
    static let rowsPerReach = 8

    /// The most images of a tile.
    package let images: Int
    /// The rows that every tile computes.
    package let height: Int
    /// The tiles; every row of every image counts in exactly one of them.
    package let tiles: [Tile]

    /// Cuts a block.
    ///
    /// - Parameters:
    ///   - count: The number of images.
    ///   - height: Rows of each image at this level.
    ///   - bytesPerRow: Scratch memory that the network needs for a row.
    ///   - reach: How many rows away the network looks.
    ///   - limits: The scratch memory to stay within, where `reach` allows it.
    package init(count: Int, height: Int, bytesPerRow: Int, reach: Int, limits: Limits) {
        let rows = max(Self.rowsPerReach * reach, limits.imageBytes / bytesPerRow, 1)
        if height * bytesPerRow <= limits.imageBytes || height <= rows + 2 * reach {
            let images = min(count, max(1, limits.batchBytes / (height * bytesPerRow)))
            self.images = images
            self.height = height
            self.tiles = stride(from: 0, to: count, by: images).map { image in
                Tile(
                    image: image,
                    images: min(images, count - image),
                    firstRow: 0,
                    rows: 0..<height
                )
            }
        } else {
            self.images = 1
            self.height = rows + 2 * reach
            self.tiles = (0..<count).flatMap { image in
                Self.strips(height: height, computed: rows + 2 * reach, reach: reach).map {
                    Tile(image: image, images: 1, firstRow: $0.firstRow, rows: $0.rows)
                }
            }
        }
    }

    /// Returns strips of `computed` rows, fewer than the image has.
    private static func strips(
        height: Int,
        computed: Int,
        reach: Int
    ) -> [(firstRow: Int, rows: Range<Int>)] {
        var strips: [(firstRow: Int, rows: Range<Int>)] = []
        var row = 0
        while row < height {
            let first = min(max(row - reach, 0), height - computed)
            let end = first + computed == height ? height : first + computed - reach
            strips.append((first, row..<end))
            row = end
        }
        return strips
    }
}
