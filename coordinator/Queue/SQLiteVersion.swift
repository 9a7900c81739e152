/// A release of SQLite.
package struct SQLiteVersion: Comparable, CustomStringConvertible, Sendable {
    /// The first release with STRICT tables, which the schema is made of.
    package static let oldest = SQLiteVersion([3, 37, 0])
    /// The first release in which several connections cannot damage a WAL that they write or
    /// checkpoint at once.
    package static let withSoundWAL = SQLiteVersion([3, 51, 3])

    private let numbers: [Int]

    private init(_ numbers: [Int]) {
        self.numbers = numbers
    }

    /// Reads what `sqlite_version()` says, such as "3.40.1".
    package init(_ text: String) {
        numbers = text.split(separator: ".").map { Int($0) ?? 0 }
    }

    package var description: String { numbers.map(String.init).joined(separator: ".") }

    package static func < (a: Self, b: Self) -> Bool {
        a.numbers.lexicographicallyPrecedes(b.numbers)
    }

    /// What the operator has to know about it; nil for a release without known defects.
    package var warning: String? {
        guard self < .withSoundWAL else { return nil }
        return """
            SQLite \(self) can damage a database that several connections write or checkpoint \
            (mended in \(Self.withSoundWAL)). This coordinator uses one: let no other program \
            write to state.db or checkpoint it.
            """
    }
}
