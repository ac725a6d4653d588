package host

// Hardware is what is known of the host's machine. Zero values are unknown.
type Hardware struct {
	// Manufacturer, Model and Serial are the machine's, as in SMBIOS type 1.
	Manufacturer, Model, Serial string
	// ProcessorModel is the name that the processors give themselves.
	ProcessorModel string
	// ProcessorCount counts sockets, CoreCount and ThreadCount what is in all
	// of them together.
	ProcessorCount, CoreCount, ThreadCount int
	// MemoryBytes is the size of the main memory.
	MemoryBytes int64
	// BIOSVersion is the version of the host's firmware.
	BIOSVersion string
}
