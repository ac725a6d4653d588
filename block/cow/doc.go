// Package cow keeps what differs from another device: a copy-on-write overlay on a
// base that is only read. A clone that was never written costs two sparse files.
//
// # Files
//
// The volume is divided into clusters of 4 KiB, each with one bit: set, the cluster
// is the overlay's own; else it is the base's. PATH.data is sparse and as large as
// the volume, cluster i is at i*4096. PATH.map has the bits that outlive a loss of
// power, PATH.live those that outlive the process. Both begin with a header of one
// sector, with a checksum; the map's bits come in sectors, each with a checksum, as
// a sector is what storage writes whole or not at all. A sector of zeros is one
// without bits, so that the map is sparse too.
//
// Three promises hold: a write that has returned outlives the process, whatever
// kills it; what a Flush came after outlives a loss of power; and a cluster is
// never partly the base's and partly the overlay's where it is not exactly so
// that a host would see it without either accident.
//
// # A write
//
// A cluster that is here is overwritten in place. For one that is not, in this order:
// room for its bit is taken in the map; the whole cluster goes to the data file, what
// the write leaves out copied from the base; its bit goes to the live file, then into
// memory, from where readers learn of it; the write returns. What happens if the
// process is killed in between:
//
//   - before the bit is in the live file: the cluster is the base's, as before the
//     write, which nobody has acknowledged. What the data file has of it is not seen,
//     and the next write to the cluster overwrites it whole.
//   - after: the cluster has all of the write. The page cache, which outlives the
//     process, has both files as they were written, in whatever order they reach the
//     storage.
//
// A bit before the data would be wrong: the cluster would read as whatever the data
// file had there. Bits share a word with those of 63 other clusters, and a word is
// written whole; so the first write to a cluster holds the lock of its word, under
// which it has all bits that are set. The same lock keeps two first writes to the same
// cluster apart: without it, the one that copies the rest from the base would take
// away what the other has written. Who writes to a cluster that is here needs no lock:
// a bit is cleared only when the volume shrinks, which is done alone.
//
// # Flush
//
// In this order: the sectors with bits that are not in the map are copied as they are
// now; the data file is synced; the copies go to the map; the map is synced. So each
// bit in the map is of data that is on the storage, whenever the kernel writes the
// map's pages, and whichever sectors of them arrive. A bit that is set after the copy,
// during the sync, waits for the next Flush, as its data may have missed this one.
// After a loss of power a cluster without a bit in the map is the base's again, which
// it was at the last Flush. A cluster with one has, of what was written since then,
// what arrived, sector by sector, as any disk. The first Flush after Open syncs the map
// even if it has all bits: a process that was killed in its own Flush may have left them
// in the page cache only.
//
// # Which bits are believed
//
// At Open the live file is believed if it has the running kernel's boot ID and the
// map's generation. Another boot ID: the page cache is gone, and the file is whatever
// arrived, perhaps bits without their data; the map is right. The generation is drawn
// at random whenever the map's header changes (at creation, and with the size), each
// time after a Flush, when the map has all bits; so a live file of before, or of a
// volume of the same name that was removed, is not believed, and nothing is lost
// with it. A live file is begun by the first write that needs it: its header is
// cleared, then the bits are made those of memory, which are the map's at that time,
// then the header is written. Killed in between, there is no header, and the map is
// right.
//
// # Sizes
//
// What grows reads as zeros there, even if the base is larger: the header has how much
// of the base shows through, which is never more than the smallest size that the
// volume has had. To shrink is one sector, the header; bits and data beyond are cut off
// after it, and before any growth, and never looked at meanwhile.
//
// # Absorb
//
// Absorb copies, cluster by cluster and as a write would, what the lower overlay has and
// this one has not; that changes nothing that can be read, so it may end anywhere and
// be done again. Then it flushes, and limits what shows through to what showed through
// both, so that this overlay reads the same on either base.
//
// # Damage
//
// A data, map or live file that is shorter than the header says, a header or a sector
// of the map with a wrong checksum: block.ErrMedium. A map's sector that somebody has
// overwritten with zeros cannot be told from one that was never written.
package cow
