package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
	"unicode/utf8"

	"github.com/nitrino/nitrino/block"
)

// handshakeLimit is how long a server may take from the connection to the export.
const handshakeLimit = 10 * time.Second

// An export is what a server says of what it serves.
type export struct {
	size  int64
	flags uint16
	// Offsets and lengths are multiples of block, a power of two; a request carries
	// at most payload bytes, a multiple of it.
	block, payload int64
	structured     bool
	allocation     bool // base:allocation, by which context
	context        uint32
}

// A handshake is a negotiation under way.
type handshake struct {
	conn io.ReadWriter
	e    export
}

// connect makes a connection and negotiates the export.
func connect(ctx context.Context, p place, o *Options) (net.Conn, export, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	conn, err := o.Dial(ctx, "tcp", p.address)
	if err != nil {
		return nil, export{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the calls on it
	defer stop()
	talked, e, err := negotiate(ctx, conn, p, o)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close() // the negotiation's error is the one that matters
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, export{}, fmt.Errorf("NBD handshake with %s: %w", p.address, err)
	}
	return talked, e, nil
}

// negotiate is the fixed newstyle handshake, up to the transmission phase.
func negotiate(ctx context.Context, conn net.Conn, p place, o *Options) (net.Conn, export, error) {
	h := handshake{conn: conn}
	if err := h.hello(); err != nil {
		return nil, export{}, err
	}
	if p.tls {
		kind, _, err := h.option(optStartTLS, nil, nil)
		if err != nil {
			return nil, export{}, err
		}
		if kind != answerAck {
			return nil, export{}, errors.New("the server offers no TLS")
		}
		secure := tls.Client(conn, &tls.Config{ServerName: p.host, RootCAs: o.Roots, MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, export{}, err
		}
		conn, h.conn = secure, secure
	}
	kind, _, err := h.option(optStructuredReply, nil, nil)
	if err != nil {
		return nil, export{}, err
	}
	if h.e.structured = kind == answerAck; h.e.structured {
		if err := h.allocation(p.export); err != nil {
			return nil, export{}, err
		}
	}
	if err := h.enter(p.export); err != nil {
		return nil, export{}, err
	}
	return conn, h.e, nil
}

// hello answers the server's greeting.
func (h *handshake) hello() error {
	var b [18]byte
	if _, err := io.ReadFull(h.conn, b[:]); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if binary.BigEndian.Uint64(b[:]) != initMagic || binary.BigEndian.Uint64(b[8:]) != optionMagic || flags&flagFixedNewstyle == 0 {
		return fmt.Errorf("%w: the greeting is not that of a fixed newstyle server", errProtocol)
	}
	// A client echoes what it shares; no zeroes only matters to NBD_OPT_EXPORT_NAME.
	_, err := h.conn.Write(binary.BigEndian.AppendUint32(nil, uint32(flags&(flagFixedNewstyle|flagNoZeroes))))
	return err
}

// option sends an option, calls each (nil: any answer but the last is an error) with
// the answers before the last, and returns the last one.
func (h *handshake) option(option uint32, data []byte, each func(kind uint32, data []byte) error) (kind uint32, text string, err error) {
	b := binary.BigEndian.AppendUint64(nil, optionMagic)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	if _, err := h.conn.Write(append(b, data...)); err != nil {
		return 0, "", err
	}
	for range maxAnswers {
		var head [20]byte
		if _, err := io.ReadFull(h.conn, head[:]); err != nil {
			return 0, "", err
		}
		n := binary.BigEndian.Uint32(head[16:])
		if binary.BigEndian.Uint64(head[:]) != answerMagic || binary.BigEndian.Uint32(head[8:]) != option || n > maxAnswer {
			return 0, "", fmt.Errorf("%w: the answer to option %d", errProtocol, option)
		}
		kind, data := binary.BigEndian.Uint32(head[12:]), make([]byte, n)
		if _, err := io.ReadFull(h.conn, data); err != nil {
			return 0, "", err
		}
		if kind == answerAck || kind&answerError != 0 {
			return kind, string(data), nil
		}
		if each == nil {
			return 0, "", fmt.Errorf("%w: answer %d to option %d", errProtocol, kind, option)
		}
		if err := each(kind, data); err != nil {
			return 0, "", err
		}
	}
	return 0, "", fmt.Errorf("%w: more than %d answers to option %d", errProtocol, maxAnswers, option)
}

// allocation asks for base:allocation, which tells holes. A server need not have it.
func (h *handshake) allocation(name string) error {
	const query = "base:allocation"
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(query)))
	_, _, err := h.option(optSetMetaContext, append(b, query...), func(kind uint32, data []byte) error {
		if kind != answerMetaContext || len(data) < 4 {
			return fmt.Errorf("%w: a metadata context", errProtocol)
		}
		if string(data[4:]) == query {
			h.e.allocation, h.e.context = true, binary.BigEndian.Uint32(data)
		}
		return nil
	})
	return err
}

// enter begins the transmission phase.
func (h *handshake) enter(name string) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, infoBlockSize)
	var told bool
	h.e.block, h.e.payload = 1, maxPayload
	kind, text, err := h.option(optGo, b, func(kind uint32, data []byte) error {
		if kind != answerInfo || len(data) < 2 {
			return fmt.Errorf("%w: answer %d to NBD_OPT_GO", errProtocol, kind)
		}
		switch info, data := binary.BigEndian.Uint16(data), data[2:]; {
		case info == infoExport && len(data) == 10:
			told = true
			h.e.size, h.e.flags = int64(binary.BigEndian.Uint64(data)), binary.BigEndian.Uint16(data[8:])
		case info == infoBlockSize && len(data) == 12:
			h.e.block = int64(binary.BigEndian.Uint32(data))
			h.e.payload = int64(binary.BigEndian.Uint32(data[8:]))
		case info == infoExport || info == infoBlockSize:
			return fmt.Errorf("%w: information %d of %d bytes", errProtocol, info, len(data))
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case kind == answerErrUnsupported:
		return fmt.Errorf("the server has no NBD_OPT_GO: %w", errors.ErrUnsupported)
	case kind != answerAck:
		if !utf8.ValidString(text) || len(text) > maxText {
			text = ""
		}
		return fmt.Errorf("the server refuses export %q (%#x %q)", name, kind, text)
	case !told:
		return fmt.Errorf("%w: no size", errProtocol)
	}
	return h.e.check()
}

// check refuses what no disk can be made of, and bounds the payload.
func (e *export) check() error {
	e.payload = min(e.payload, maxPayload) &^ (e.block - 1)
	switch {
	case e.flags&flagHasFlags == 0:
		return fmt.Errorf("%w: transmission flags %#x", errProtocol, e.flags)
	case e.block <= 0 || e.block > 64<<10 || e.block&(e.block-1) != 0 || e.payload < max(e.block, block.SectorSize):
		return fmt.Errorf("%w: blocks of %d bytes, requests of %d", errProtocol, e.block, e.payload)
	case e.size < block.SectorSize:
		return fmt.Errorf("%w: a disk of %d bytes", errProtocol, e.size)
	case e.size%e.block != 0:
		return fmt.Errorf("%w: a disk of %d bytes in blocks of %d", errProtocol, e.size, e.block)
	}
	e.payload &^= block.SectorSize - 1
	return nil
}

// incoming is a reader of what comes: headers and short reads are buffered, long
// ones go past the buffer.
func incoming(conn io.Reader) *bufio.Reader { return bufio.NewReaderSize(conn, 32<<10) }
