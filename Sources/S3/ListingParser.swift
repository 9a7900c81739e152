import Foundation
import FoundationXML

extension S3Listing {
    /// Reads a page of a listing whose keys are escaped as in URLs; nil for anything else.
    package init?(xml: [UInt8]) {
        let parser = XMLParser(data: Data(xml))
        let delegate = ListingParser()
        parser.delegate = delegate
        guard parser.parse(), delegate.isListing else { return nil }
        self = delegate.listing
    }
}

/// Reads the XML of S3's answers.
final class ListingParser: NSObject, XMLParserDelegate {
    fileprivate private(set) var listing = S3Listing()
    private var path: [String] = []
    private var text = ""
    private var key = ""
    /// Whether a whole listing was read.
    fileprivate private(set) var isListing = false

    /// Returns the text of the first element of a name that holds nothing but text.
    static func text(_ name: String, in bytes: [UInt8]) -> String? {
        let text = String(decoding: bytes, as: UTF8.self)
        guard let start = text.range(of: "<\(name)>"),
            let end = text.range(of: "</\(name)>", range: start.upperBound..<text.endIndex)
        else { return nil }
        return String(text[start.upperBound..<end.lowerBound])
    }

    /// Returns the keys and ids of a list of uploads whose keys are escaped as in URLs.
    static func uploads(in bytes: [UInt8]) -> [(key: String, id: String)] {
        String(decoding: bytes, as: UTF8.self).components(separatedBy: "<Upload>").dropFirst()
            .compactMap { upload in
                let bytes = Array(upload.utf8)
                guard let key = text("Key", in: bytes), let id = text("UploadId", in: bytes) else {
                    return nil
                }
                return (unescaped(key), id)
            }
    }

    func parser(
        _ parser: XMLParser,
        didStartElement name: String,
        namespaceURI: String?,
        qualifiedName: String?,
        attributes: [String: String]
    ) {
        path.append(name)
        text = ""
    }

    func parser(_ parser: XMLParser, foundCharacters part: String) {
        text += part
    }

    func parser(
        _ parser: XMLParser,
        didEndElement name: String,
        namespaceURI: String?,
        qualifiedName: String?
    ) {
        switch path.dropFirst().joined(separator: "/") {
        case "NextContinuationToken": listing.continuation = text
        case "CommonPrefixes/Prefix": listing.prefixes.append(Self.unescaped(text))
        case "Contents/Key": key = Self.unescaped(text)
        case "Contents/Size":
            listing.objects.append(S3Object(key: key, bytes: Int64(text) ?? 0))
        default: break
        }
        path.removeLast()
        text = ""
        // A parser that meets the end too early does not always say so.
        if path.isEmpty, name == "ListBucketResult" { isListing = true }
    }

    private static func unescaped(_ text: String) -> String {
        text.replacingOccurrences(of: "+", with: " ").removingPercentEncoding ?? text
    }
}
