import Testing
import Worker

struct GlobTests {
    @Test(arguments: [
        ("*.png", "a.png"), ("*.png", "sub/deep/a.png"), ("sub/*.png", "sub/a.png"),
        ("sub/**", "sub/deep/a.png"), ("**/a.png", "sub/deep/a.png"), ("a?c", "abc"),
        ("[a-c]x", "bx"), ("[!a-c]x", "dx"), ("[]]x", "]x"), ("a\\*", "a*"), ("*", ""),
        ("a*b*c", "aXXbYYc"), ("[", "["), ("ä?", "äö"), ("a**b", "a/x/b"), ("sub/", "sub/"),
    ])
    func matches(pattern: String, name: String) {
        #expect(Glob(pattern).matches(name))
    }

    @Test(arguments: [
        ("*.png", "a.jpg"), ("sub/*.png", "sub/deep/a.png"), ("sub/*.png", "a.png"),
        ("a?c", "ac"), ("x/a?c", "x/a/c"), ("[a-c]x", "dx"), ("[!a-c]x", "ax"), ("a\\*", "ab"),
        ("x/[!a]b", "x//b"), ("a*b*c", "aXXbYY"), ("?", ""), ("a", "A"),
    ])
    func doesNotMatch(pattern: String, name: String) {
        #expect(!Glob(pattern).matches(name))
    }

    @Test func aPatternOfManyStarsIsNotExponential() {
        let pattern = String(repeating: "*a", count: 40) + "b"
        #expect(!Glob(pattern).matches(String(repeating: "a", count: 200)))
    }
}
