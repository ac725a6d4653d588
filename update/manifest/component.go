package manifest

// A Component is a part of a slot that has a version of its own.
type Component struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Source says where it comes from: a package, a module, a folder of this one.
	Source string `json:"source"`
	// SHA256 is the hash of the component's bytes, in lower-case hexadecimal digits.
	SHA256 string `json:"sha256"`
}
