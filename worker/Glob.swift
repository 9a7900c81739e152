/// A shell pattern over sample names.
///
/// `?` is one character, `*` any run inside one folder, `**` any run across folders, `[a-z]` and
/// `[!a-z]` a character class, `\` takes the next character literally. A pattern without "/" or "**"
/// applies to the last component, so `*.png` finds PNG files at any depth.
package struct Glob: Equatable, Sendable {
    private enum Element: Equatable {
        case literal(Unicode.Scalar)
        case anyScalar
        case anyInFolder
        case anyAcrossFolders
        case oneOf([ClosedRange<Unicode.Scalar>], negated: Bool)
    }

    private let elements: [Element]
    private let isLastComponentOnly: Bool

    package init(_ pattern: String) {
        elements = Self.parse(Array(pattern.unicodeScalars))
        isLastComponentOnly = !pattern.contains("/") && !pattern.contains("**")
    }

    package func matches(_ name: String) -> Bool {
        var scalars = Array(name.unicodeScalars)
        if isLastComponentOnly, let slash = scalars.lastIndex(of: "/") {
            scalars.removeFirst(slash + 1)
        }
        return matches(scalars)
    }

    /// Two-row dynamic programming over the elements: linear in name × pattern, never exponential.
    private func matches(_ scalars: [Unicode.Scalar]) -> Bool {
        // reached[i]: the name so far can be matched by the first i elements.
        var reached = [Bool](repeating: false, count: elements.count + 1)
        reached[0] = true
        skipEmptyRuns(&reached)
        for scalar in scalars {
            var next = [Bool](repeating: false, count: elements.count + 1)
            for (index, element) in elements.enumerated() where reached[index] {
                switch element {
                case .anyInFolder:
                    if scalar != "/" { next[index] = true }
                case .anyAcrossFolders:
                    next[index] = true
                default:
                    if Self.matchesOne(element, scalar) { next[index + 1] = true }
                }
            }
            skipEmptyRuns(&next)
            reached = next
        }
        return reached[elements.count]
    }

    /// A run may be empty: whoever stands before one also stands behind it.
    private func skipEmptyRuns(_ reached: inout [Bool]) {
        for (index, element) in elements.enumerated() where reached[index] {
            if element == .anyInFolder || element == .anyAcrossFolders { reached[index + 1] = true }
        }
    }

    private static func matchesOne(_ element: Element, _ scalar: Unicode.Scalar) -> Bool {
        switch element {
        case .literal(let expected): scalar == expected
        case .anyScalar: scalar != "/"
        case .oneOf(let ranges, let negated):
            scalar != "/" && ranges.contains { $0.contains(scalar) } != negated
        case .anyInFolder, .anyAcrossFolders: false
        }
    }

    private static func parse(_ pattern: [Unicode.Scalar]) -> [Element] {
        var elements: [Element] = []
        var index = 0
        while index < pattern.count {
            let scalar = pattern[index]
            index += 1
            switch scalar {
            case "?":
                elements.append(.anyScalar)
            case "*":
                let isDouble = index < pattern.count && pattern[index] == "*"
                if isDouble { index += 1 }
                elements.append(isDouble ? .anyAcrossFolders : .anyInFolder)
            case "\\" where index < pattern.count:
                elements.append(.literal(pattern[index]))
                index += 1
            case "[":
                if let (element, end) = parseClass(pattern, from: index) {
                    elements.append(element)
                    index = end
                } else {
                    elements.append(.literal(scalar))
                }
            default:
                elements.append(.literal(scalar))
            }
        }
        return elements
    }

    /// The class that starts behind "[" at `start`, and where the pattern goes on; nil without "]".
    private static func parseClass(
        _ pattern: [Unicode.Scalar],
        from start: Int
    ) -> (Element, end: Int)? {
        var index = start
        let negated = index < pattern.count && (pattern[index] == "!" || pattern[index] == "^")
        if negated { index += 1 }
        var ranges: [ClosedRange<Unicode.Scalar>] = []
        while index < pattern.count {
            // A "]" in first place is a member, as in every shell.
            if pattern[index] == "]", !ranges.isEmpty {
                return (.oneOf(ranges, negated: negated), index + 1)
            }
            let low = pattern[index]
            if index + 2 < pattern.count, pattern[index + 1] == "-", pattern[index + 2] != "]",
                low <= pattern[index + 2]
            {
                ranges.append(low...pattern[index + 2])
                index += 3
            } else {
                ranges.append(low...low)
                index += 1
            }
        }
        return nil
    }
}
