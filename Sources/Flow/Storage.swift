/// Uninitialised memory for plain numbers, freed with its owner.
struct Storage<Element: BitwiseCopyable>: ~Copyable {
    /// The first element.
    let start: UnsafeMutablePointer<Element>
    /// The number of elements.
    let count: Int

    init(count: Int) {
        self.start = .allocate(capacity: count)
        self.count = count
    }

    deinit { start.deallocate() }

    /// The elements for reading; valid while the storage lives.
    var elements: UnsafeBufferPointer<Element> { UnsafeBufferPointer(start: start, count: count) }

    /// The elements for writing; valid while the storage lives.
    var mutableElements: UnsafeMutableBufferPointer<Element> {
        UnsafeMutableBufferPointer(start: start, count: count)
    }
}

/// The latents of a block at one level, Int16, `[image][y][x][channel]`.
struct LatentBuffer: ~Copyable {
    /// The number of images.
    let count: Int
    /// Rows and columns of each image at this level.
    let height: Int
    let width: Int
    /// Channels of each position.
    let channels: Int
    private let storage: Storage<Int16>

    init(count: Int, height: Int, width: Int, channels: Int) {
        self.count = count
        self.height = height
        self.width = width
        self.channels = channels
        self.storage = Storage(count: count * height * width * channels)
    }

    /// The number of positions of all images.
    var positions: Int { count * height * width }

    /// The first latent.
    var start: UnsafeMutablePointer<Int16> { storage.start }
}
