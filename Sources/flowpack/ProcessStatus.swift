import Foundation

/// Looks up the most memory that a process had resident so far.
///
/// It reads `/proc`: what `getrusage` tells of a program begins with the peak of the one that started
/// it.
///
/// - Parameter process: The process's id; nil for this one.
/// - Returns: Bytes.
/// - Throws: When there is no such process.
func peakMemoryBytes(process: Int32? = nil) throws -> Int {
    let folder = process.map(String.init) ?? "self"
    let peak = try String(contentsOfFile: "/proc/\(folder)/status", encoding: .utf8)
        .split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    let kilobytes = peak?.split(whereSeparator: \.isWhitespace).dropFirst().first
    return (kilobytes.flatMap { Int($0) } ?? 0) * 1024
}
