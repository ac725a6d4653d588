package scsi

import (
	"bytes"
	"encoding/binary"
)

// Limits of EXTENDED COPY.
const (
	maxCopyTargets  = 16
	maxCopySegments = 64
	maxCopyList     = 4096     // bytes of descriptors
	maxCopySegment  = 32 << 20 // bytes of data
)

// Descriptors (SPC-4 sections 6.4.5 and 6.4.6).
const (
	targetIdentity       = 0xe4
	segmentBlocks        = 0x02 // block to block
	segmentOffset        = 0x0a // the same, counted in bytes
	targetSize           = 32
	copyHeader           = 16
	actionCopyStatus     = 0
	actionCopyParameters = 3
)

const codeUnreachableTarget = 0x0804

// A copyStatus is what RECEIVE COPY STATUS tells of a copy.
type copyStatus struct {
	list     byte
	failed   bool
	segments int
	bytes    int64
}

func decodeCopy(_ *Unit, c *Command) *condition {
	n := allocation32(c.CDB[10:])
	if n > copyHeader+maxCopyList+copyHeader {
		return illegal(codeParameterListLength)
	}
	c.Out = n
	return nil
}

// A segment is a range to be copied.
type segment struct {
	from, to                *link
	source, destination     int64 // bytes
	length                  int64
	unreachable, outOfRange bool
}

// extendedCopy is EXTENDED COPY(LID1) between units of this target (SPC-4 section
// 6.4). It answers when it is done.
func extendedCopy(u *Unit, c *Command) *condition {
	list := c.Data[:min(len(c.Data), c.Out)]
	c.N = len(list)
	if c.Out == 0 {
		return nil
	}
	if len(list) < copyHeader {
		return illegal(codeParameterListLength)
	}
	targets, segments, inline := int64(allocation16(list[2:])), int64(binary.BigEndian.Uint32(list[8:])), int64(binary.BigEndian.Uint32(list[12:]))
	switch {
	case targets+segments > maxCopyList, int64(len(list)) < copyHeader+targets+segments+inline:
		return illegal(codeParameterListLength)
	case inline > 0: // no segment of ours has any
		return badParameter(12, 7)
	case list[1]>>3&3 == 3 && list[0] != 0: // no LIST IDENTIFIER is given
		return badParameter(0, 7)
	}
	links, d := copyTargets(c.nexus, list[copyHeader:copyHeader+targets])
	if d != nil {
		return d
	}
	all, d := copySegments(links, list[copyHeader+targets:copyHeader+targets+segments], int(copyHeader+targets))
	if d != nil {
		return d
	}
	done := &copyStatus{list: list[0]}
	for _, s := range all {
		if d = s.copy(c, done); d != nil {
			done.failed = true
			break
		}
		done.segments++
	}
	u.tasks.mu.Lock()
	c.link.copied = done
	u.tasks.mu.Unlock()
	return d
}

// copyTargets finds the units of the descriptors; nil for what is not of this target.
func copyTargets(n *Nexus, list []byte) ([]*link, *condition) {
	if len(list)%targetSize != 0 {
		return nil, illegal(codeParameterListLength)
	}
	if len(list)/targetSize > maxCopyTargets {
		return nil, illegal(codeTooManyTargets)
	}
	var links []*link
	for ; len(list) > 0; list = list[targetSize:] {
		if list[0] != targetIdentity {
			return nil, illegal(codeUnsupportedTargetType)
		}
		links = append(links, n.named(list[5]&0x0f, list[8:8+min(int(list[7]), 20)]))
	}
	return links, nil
}

// named finds a unit by a designator of its device identification page.
func (n *Nexus) named(kind byte, id []byte) *link {
	for _, l := range *n.links.Load() {
		naa := l.unit.naa()
		if kind == designatorNAA && bytes.Equal(id, naa[:]) && !l.unit.o.CD {
			return l
		}
	}
	return nil
}

// copySegments decodes the segment descriptors, which begin at a byte of the list.
func copySegments(links []*link, list []byte, at int) ([]segment, *condition) {
	var all []segment
	for len(list) > 0 {
		size := map[byte]int{segmentBlocks: 28, segmentOffset: 32}[list[0]]
		switch {
		case size == 0:
			return nil, illegal(codeUnsupportedSegmentType)
		case len(list) < size:
			return nil, illegal(codeParameterListLength)
		case allocation16(list[2:]) != size-4:
			return nil, badParameter(at+2, 7)
		case len(all) == maxCopySegments:
			return nil, illegal(codeTooManySegments)
		}
		var s segment
		if from, to := allocation16(list[4:]), allocation16(list[6:]); from < len(links) && to < len(links) {
			s.from, s.to = links[from], links[to]
		}
		if s.from == nil || s.to == nil {
			s.unreachable = true
		} else if d := s.decode(list[:size], at); d != nil {
			return nil, d
		}
		all = append(all, s)
		list, at = list[size:], at+size
	}
	return all, nil
}

func (s *segment) decode(b []byte, at int) *condition {
	source, destination := s.from.unit, s.to.unit
	from, to := binary.BigEndian.Uint64(b[12:]), binary.BigEndian.Uint64(b[20:])
	if from > uint64(source.disk.Size()/source.block) || to > uint64(destination.disk.Size()/destination.block) {
		s.outOfRange = true
		return nil
	}
	s.source, s.destination = int64(from)*source.block, int64(to)*destination.block
	if b[0] == segmentOffset {
		s.length = int64(binary.BigEndian.Uint32(b[8:]))
		s.source += int64(allocation16(b[28:]))
		s.destination += int64(allocation16(b[30:]))
	} else {
		s.length = int64(allocation16(b[10:])) * source.block
		if b[1]&0x02 != 0 { // DC: counted in blocks of the destination
			s.length = int64(allocation16(b[10:])) * destination.block
		}
	}
	if s.length > maxCopySegment || s.source%source.block != 0 || s.length%source.block != 0 ||
		s.destination%destination.block != 0 || s.length%destination.block != 0 {
		return badParameter(at+8, 7) // whole blocks only
	}
	s.outOfRange = s.length > source.disk.Size()-s.source || s.length > destination.disk.Size()-s.destination
	return nil
}

// copy copies a segment. Where it overlaps with itself it begins at the end, so that
// nothing is read that was written.
func (s *segment) copy(c *Command, done *copyStatus) *condition {
	aborted := func(code uint16) *condition { return &condition{key: copyAborted, code: code} }
	switch {
	case s.unreachable:
		return aborted(codeUnreachableTarget)
	case s.outOfRange:
		return aborted(codeNone)
	case s.to.unit.writable() != nil:
		return aborted(codeCopyTargetUnreachable)
	}
	return s.from.unit.chunk(c, min(s.length, maxChunk), func(chunk []byte) *condition { return s.move(c, chunk, done) })
}

// move is copy by a chunk at a time.
func (s *segment) move(c *Command, chunk []byte, done *copyStatus) *condition {
	aborted := &condition{key: copyAborted, code: codeCopyTargetUnreachable}
	since := s.to.unit.erasures.Load()
	visit := s.to.unit.tasks.enter(s.to, c)
	defer s.to.unit.tasks.leave(visit)
	backward := s.from.unit == s.to.unit && s.destination > s.source
	for left := s.length; left > 0 && !c.Aborted(); {
		n := min(left, maxChunk)
		at := s.length - left
		if left -= n; backward {
			at = left
		}
		if visit.stopped.Load() || s.forbidden() {
			return aborted
		}
		if err := s.from.unit.disk.Readv([][]byte{chunk[:n]}, s.source+at); err != nil {
			return failure(err, reading, uint64((s.source+at)/s.from.unit.block))
		}
		through := !s.to.unit.mode.cache.Load()
		err := s.to.unit.modify(since, func() error {
			return s.to.unit.disk.Writev([][]byte{chunk[:n]}, s.destination+at, through)
		})
		if err == nil {
			err = s.to.unit.last(through)
		}
		if err != nil {
			return failure(err, writing, uint64((s.destination+at)/s.to.unit.block))
		}
		done.bytes += n
	}
	return nil
}

// forbidden says whether reservations of others keep the initiator from reading the
// one unit or writing to the other.
func (s *segment) forbidden() bool {
	u := s.from.unit
	u.tasks.mu.Lock()
	is := u.bars(s.from, conflictsExclusive)
	u.tasks.mu.Unlock()
	u = s.to.unit
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	return is || u.bars(s.to, conflictsAlways) || u.ejected || u.sanitizes || s.to.gone
}

func decodeCopyResults(_ *Unit, c *Command) *condition {
	c.allow(allocation32(c.CDB[10:]))
	return nil
}

// receiveCopyStatus is RECEIVE COPY STATUS(LID1) (SPC-4 section 6.24).
func receiveCopyStatus(u *Unit, c *Command) *condition {
	u.tasks.mu.Lock()
	done := c.link.copied
	u.tasks.mu.Unlock()
	if done == nil || done.list != c.CDB[2] {
		return badField(2, 7)
	}
	b := []byte{0, 0, 0, 8, 1, byte(done.segments >> 8), byte(done.segments), 1} // without errors; in KiB
	if done.failed {
		b[4] = 2
	}
	c.reply(binary.BigEndian.AppendUint32(b, uint32(done.bytes>>10)))
	return nil
}

// receiveCopyParameters is RECEIVE COPY OPERATING PARAMETERS (SPC-4 section 6.23).
func receiveCopyParameters(_ *Unit, c *Command) *condition {
	kinds := []byte{segmentBlocks, segmentOffset, targetIdentity}
	b := make([]byte, 44, 48)
	b[4] = 0x01 // SNLID: without a list identifier too
	binary.BigEndian.PutUint16(b[8:], maxCopyTargets)
	binary.BigEndian.PutUint16(b[10:], maxCopySegments)
	binary.BigEndian.PutUint32(b[12:], maxCopyList)
	binary.BigEndian.PutUint32(b[16:], maxCopySegment)
	b[35], b[36] = 0xff, 0xff // as many at a time as there are commands
	b[37] = 9                 // granularity: 512 bytes
	b[43] = byte(len(kinds))
	b = append(b, kinds...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.reply(b)
	return nil
}

// appendThirdParty is the third-party copy page (SPC-4 section 7.8.17).
func appendThirdParty(data []byte) []byte {
	add := func(kind uint16, b []byte) {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		data = binary.BigEndian.AppendUint16(data, kind)
		data = binary.BigEndian.AppendUint16(data, uint16(len(b)))
		data = append(data, b...)
	}
	add(0x0001, []byte{7, 0x83, 1, 0, 0x84, 2, actionCopyStatus, actionCopyParameters}) // supported commands
	parameters := make([]byte, 28)
	binary.BigEndian.PutUint16(parameters[4:], maxCopyTargets)
	binary.BigEndian.PutUint16(parameters[6:], maxCopySegments)
	binary.BigEndian.PutUint32(parameters[8:], maxCopyList)
	add(0x0004, parameters)
	add(0x0008, []byte{3, segmentBlocks, segmentOffset, targetIdentity}) // supported descriptors
	add(0x000c, []byte{0, 0})                                            // no further CSCD identifiers
	general := make([]byte, 32)
	binary.BigEndian.PutUint32(general, 0xff)
	binary.BigEndian.PutUint32(general[4:], 0xff)
	binary.BigEndian.PutUint32(general[8:], maxCopySegment)
	general[12] = 9
	add(0x8001, general)
	return data
}
