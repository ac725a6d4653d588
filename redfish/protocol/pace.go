package protocol

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// idle is how long a client of an upload or a stream may let a connection stand
// still. The server's own limits, which are for whole requests and answers, do
// not hold for those.
const idle = time.Minute

// minPace is how many bytes a second an upload has to bring, all in all, after
// its first minute: a byte now and then would hold for ever what only one upload
// can have.
const minPace = 1 << 10

// A pacedBody is a request's body that may be of any length, as long as it
// comes on.
type pacedBody struct {
	io.ReadCloser
	conn  *http.ResponseController
	began time.Time
	came  int64
}

// PacedBody is a request's body that may take longer than the server lets
// requests take, but may neither stand still nor creep.
func PacedBody(body io.ReadCloser, conn *http.ResponseController) io.ReadCloser {
	return &pacedBody{ReadCloser: body, conn: conn, began: time.Now()}
}

// Read reads. After the end the connection waits for nothing more: a deadline
// would end the request's context while the handler still works.
func (b *pacedBody) Read(p []byte) (int, error) {
	left := idle + time.Duration(b.came/minPace)*time.Second - time.Since(b.began)
	if left <= 0 {
		return 0, fmt.Errorf("the upload is too slow: %w", os.ErrDeadlineExceeded)
	}
	if err := deadline(b.conn.SetReadDeadline, min(left, idle)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	b.came += int64(n)
	if err == io.EOF {
		if err := deadline(b.conn.SetReadDeadline, 0); err != nil {
			return n, err
		}
	}
	return n, err
}

// A pacedWriter is an answer that may take any time, as long as the client
// takes what is sent.
type pacedWriter struct {
	http.ResponseWriter
	conn *http.ResponseController
}

// newPacedWriter also lifts the limit of reading: the server would take it for
// the client's end.
func newPacedWriter(w http.ResponseWriter) (pacedWriter, error) {
	p := pacedWriter{w, http.NewResponseController(w)}
	return p, deadline(p.conn.SetReadDeadline, 0)
}

// Write writes.
func (w pacedWriter) Write(p []byte) (int, error) {
	if err := deadline(w.conn.SetWriteDeadline, idle); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController's Flush calls.
func (w pacedWriter) FlushError() error {
	if err := deadline(w.conn.SetWriteDeadline, idle); err != nil {
		return err
	}
	return w.conn.Flush()
}

// Unwrap is for http.ResponseController.
func (w pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// deadline sets one that far ahead, or none for 0. A connection without
// deadlines, as some tests have, has none to lift.
func deadline(set func(time.Time) error, ahead time.Duration) error {
	var at time.Time
	if ahead > 0 {
		at = time.Now().Add(ahead)
	}
	if err := set(at); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
