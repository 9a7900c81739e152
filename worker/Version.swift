/// The version of this program, as in CHANGELOG.md.
package let flowpackVersion = "0.1.0"
