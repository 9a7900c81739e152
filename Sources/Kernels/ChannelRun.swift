/// Channels that follow one another both among all channels and in a selection of these.
package struct ChannelRun: Sendable {
    /// The first of them.
    package let source: Int
    /// Its place in the selection.
    package let target: Int
    /// How many there are.
    package private(set) var count = 1

    /// Finds the runs of a selection.
    ///
    /// - Parameters:
    ///   - selection: The channels that are chosen.
    ///   - longest: What is longer becomes several runs.
    /// - Returns: The runs in the selection's order.
    package static func runs(_ selection: [Int], longest: Int) -> [ChannelRun] {
        var runs: [ChannelRun] = []
        for (target, source) in selection.enumerated() {
            if let run = runs.last, run.source + run.count == source, run.count < longest {
                runs[runs.count - 1].count += 1
            } else {
                runs.append(ChannelRun(source: source, target: target))
            }
        }
        return runs
    }
}
