package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// errLeft: the client ended the session as the protocol has it.
var errLeft = errors.New("the client left")

// handshake is the fixed newstyle negotiation. It returns when the client has
// chosen the export.
func (c *session) handshake() error {
	hello := binary.BigEndian.AppendUint64(nil, initMagic)
	hello = binary.BigEndian.AppendUint64(hello, optionMagic)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := c.conn.Write(hello); err != nil {
		return err
	}
	var b [16]byte
	if _, err := io.ReadFull(c.conn, b[:4]); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint32(b[:])
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 || flags&flagFixedNewstyle == 0 {
		return fmt.Errorf("%w: client flags %#x", errProtocol, flags)
	}
	for {
		if _, err := io.ReadFull(c.conn, b[:]); err != nil {
			return err
		}
		if binary.BigEndian.Uint64(b[:]) != optionMagic {
			return fmt.Errorf("%w: option magic", errProtocol)
		}
		option, n := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
		if n > maxOption {
			// The handshake's time limit bounds what is thrown away.
			if _, err := io.CopyN(io.Discard, c.conn, int64(n)); err != nil {
				return err
			}
			if option == optExportName {
				return fmt.Errorf("%w: a name of %d bytes", errProtocol, n)
			}
			if err := c.answer(option, repErrTooBig, nil); err != nil {
				return err
			}
			continue
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(c.conn, data); err != nil {
			return err
		}
		chosen, err := c.option(option, data, flags&flagNoZeroes != 0)
		if chosen || err != nil {
			return err
		}
	}
}

func (c *session) answer(option, kind uint32, data []byte) error {
	_, err := c.conn.Write(appendAnswer(nil, option, kind, data))
	return err
}

// option answers one option, and reports whether it begins the transmission.
func (c *session) option(option uint32, data []byte, noZeroes bool) (chosen bool, err error) {
	e := &c.s.export
	switch option {
	case optExportName: // there is no answer that refuses
		if !c.known(string(data)) {
			return false, fmt.Errorf("%w: export %.40q is not known", errProtocol, data)
		}
		b := c.info()
		if !noZeroes {
			b = append(b, make([]byte, 124)...)
		}
		_, err := c.conn.Write(b)
		return err == nil, err
	case optAbort:
		_ = c.answer(option, repAck, nil) // the client may be gone already
		return false, errLeft
	case optList:
		if len(data) != 0 {
			return false, c.answer(option, repErrInvalid, nil)
		}
		server := binary.BigEndian.AppendUint32(nil, uint32(len(e.Name)))
		server = append(server, e.Name...)
		if err := c.answer(option, repServer, server); err != nil {
			return false, err
		}
		return false, c.answer(option, repAck, nil)
	case optInfo, optGo:
		r, err := decodeInfo(data)
		if err != nil {
			return false, c.answer(option, repErrInvalid, nil)
		}
		if !c.known(r.name) {
			return false, c.answer(option, repErrUnknown, nil)
		}
		_, err = c.conn.Write(c.infos(option, r.infos))
		return err == nil && option == optGo, err
	}
	return false, c.answer(option, repErrUnsup, nil)
}

func (c *session) known(name string) bool { return name == "" || name == c.s.export.Name }

// info is the export's size and transmission flags.
func (c *session) info() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, uint64(c.s.export.Device.Size())), c.s.flags())
}

// infos answers NBD_OPT_INFO and NBD_OPT_GO. Whoever the block sizes bind is
// told them even if it does not ask.
func (c *session) infos(option uint32, asked []uint16) []byte {
	e := &c.s.export
	tell := func(b []byte, info uint16, data []byte) []byte {
		return appendAnswer(b, option, repInfo, append(binary.BigEndian.AppendUint16(nil, info), data...))
	}
	b := tell(nil, infoExport, c.info())
	sizes := binary.BigEndian.AppendUint32(nil, uint32(e.BlockSize))
	sizes = binary.BigEndian.AppendUint32(sizes, 4096)
	b = tell(b, infoBlockSize, binary.BigEndian.AppendUint32(sizes, MaxRequest))
	var named, described bool
	for _, info := range asked {
		switch {
		case info == infoName && !named:
			named = true
			b = tell(b, info, []byte(e.Name))
		case info == infoDescription && !described && e.Description != "":
			described = true
			b = tell(b, info, []byte(e.Description))
		}
	}
	return appendAnswer(b, option, repAck, nil)
}

func (s *Server) flags() uint16 {
	flags := uint16(hasFlags | sendFlush | canMultiConn) // a Flush is for the writes of all
	if s.export.ReadOnly {
		return flags | readOnly
	}
	flags |= sendFUA
	if _, ok := s.export.Device.(Trimmer); ok {
		flags |= sendTrim
	}
	if _, ok := s.export.Device.(Zeroer); ok {
		flags |= sendWriteZeroes
	}
	return flags
}
