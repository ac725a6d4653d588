package block

import "time"

// A Kind says what a volume is for.
type Kind string

const (
	// KindDisk is a volume that may be written.
	KindDisk Kind = "disk"
	// KindImage is a golden image: read-only, there to be cloned or exported as it is.
	KindImage Kind = "image"
	// KindSnapshot is how a volume was at one moment: read-only, to be cloned or gone
	// back to.
	KindSnapshot Kind = "snapshot"
)

// A Format is how a volume's own data is kept.
type Format string

const (
	// FormatRaw is a sparse file.
	FormatRaw Format = "raw"
	// FormatCoW keeps only what differs from another volume.
	FormatCoW Format = "cow"
	// FormatNBD is a disk on an NBD server.
	FormatNBD Format = "nbd"
)

// Info is what is known of a volume.
type Info struct {
	Name string `json:"name"`
	// UUID names it for ever, as 8-4-4-4-12 hexadecimal digits.
	UUID   string `json:"uuid"`
	Kind   Kind   `json:"kind"`
	Format Format `json:"format"`
	// Size is what a host sees, Used what the volume alone takes on the card. Bytes.
	Size int64 `json:"size"`
	Used int64 `json:"used"`
	// BlockSize and PhysicalSize are those of the logical and physical block, bytes.
	BlockSize    int `json:"block_size"`
	PhysicalSize int `json:"physical_size"`
	// Of is the volume that a snapshot is of; Base what a clone was made of. Either
	// may be gone meanwhile.
	Of   string `json:"of,omitempty"`
	Base string `json:"base,omitempty"`
	// Source is where the contents came from, without secrets: a URL or a file's
	// name; Upstream the NBD server that they are on.
	Source   string    `json:"source,omitempty"`
	Upstream string    `json:"upstream,omitempty"`
	Created  time.Time `json:"created"`
	// Failed says why the volume cannot be used; empty: it can.
	Failed string `json:"failed,omitempty"`
}

// CreateRequest makes an empty volume, a clone, or one on an NBD server.
type CreateRequest struct {
	// Name has 1 to 63 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit.
	Name string `json:"name"`
	// Size in bytes; 0: that of what it is made of. A clone may be larger.
	Size int64 `json:"size,omitempty"`
	// BlockSize is 512 or 4096; 0: 512, or that of what it is made of. PhysicalSize 0: 4096.
	BlockSize    int `json:"block_size,omitempty"`
	PhysicalSize int `json:"physical_size,omitempty"`
	// Clone is the volume to make a copy-on-write clone of: an image or a snapshot.
	Clone string `json:"clone,omitempty"`
	// Upstream is an NBD URI (nbd://host:port/export, nbds:// with TLS).
	Upstream string `json:"upstream,omitempty"`
	// ReadOnly makes it an image (with Upstream).
	ReadOnly bool `json:"read_only,omitempty"`
}

// ImportRequest makes a volume of data that comes as a stream.
type ImportRequest struct {
	Name string `json:"name"`
	// Kind is KindDisk or KindImage ("": KindImage).
	Kind Kind `json:"kind,omitempty"`
	// Format of the stream: "raw", "qcow2", or "" to look at its first bytes. A
	// stream packed with gzip, xz or zstd is unpacked in either case.
	Format string `json:"format,omitempty"`
	// SHA256 is what the stream as it comes must have, as 64 hexadecimal digits; "" for none.
	SHA256 string `json:"sha256,omitempty"`
	// Length is how many bytes come, 0 if nobody knows.
	Length int64 `json:"length,omitempty"`
	// Size is that of the volume, at least the data's, in bytes; 0: the data's, filled
	// up with zeros to a multiple of 4096.
	Size      int64  `json:"size,omitempty"`
	BlockSize int    `json:"block_size,omitempty"`
	Source    string `json:"source,omitempty"` // for Info
}

// A Job is something that takes long: an import, an export, the removal of a
// snapshot that others stand on.
type Job struct {
	ID     string `json:"id"`
	Volume string `json:"volume"`
	// Operation is "import", "export" or "merge".
	Operation string `json:"operation"`
	// Done and Total are bytes; Total is 0 where it is not known.
	Done    int64     `json:"done"`
	Total   int64     `json:"total"`
	Started time.Time `json:"started"`
	// Ended is zero while it runs; Error says why it failed.
	Ended time.Time `json:"ended,omitzero"`
	Error string    `json:"error,omitempty"`
}

// A Target is an iSCSI target: what initiators log in to.
type Target struct {
	// Name is its iSCSI name (RFC 7143 section 4.2.7), "iqn.…", "eui.…" or "naa.…".
	Name  string `json:"name"`
	Alias string `json:"alias"`
	LUNs  []LUN  `json:"luns"`
	// Initiators are the iSCSI names of those that may log in, and to whom it is
	// shown. None: all that can prove who they are by CHAP; without CHAP, anybody.
	Initiators []string `json:"initiators"`
	// CHAP is what an initiator has to prove that it knows; Mutual what the target
	// proves in turn. A Secret has 12 to 255 bytes, and the two differ (RFC 7143
	// section 12.1.3).
	CHAP   Credentials `json:"chap"`
	Mutual Credentials `json:"mutual_chap"`
}

// A LUN is a volume as a logical unit of a target.
type LUN struct {
	Number uint16 `json:"lun"` // 0 to 255
	Volume string `json:"volume"`
	// CD shows the volume as a CD-ROM drive with the disc in it.
	CD bool `json:"cd"`
}

// Credentials are a name and a secret; without a name there are none.
type Credentials struct {
	User   string `json:"user"`
	Secret string `json:"secret"`
}

// A Session is an initiator that is logged in.
type Session struct {
	Target    string    `json:"target"`
	Initiator string    `json:"initiator"`
	ISID      string    `json:"isid"` // 12 hexadecimal digits
	Address   string    `json:"address"`
	User      string    `json:"user,omitempty"` // by CHAP
	Since     time.Time `json:"since"`
	Volumes   []string  `json:"volumes"`
}
