package bmc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
)

const (
	// maxRequests and maxLong bound what goes on at a time; what is more is refused.
	maxRequests = 32
	maxLong     = 8
	// tellPause is the least time between two tellings of what has changed by itself.
	tellPause = 200 * time.Millisecond
)

// The events of what was asked for.
const (
	kindVolumeCreated  = "volume.created"
	kindVolumeSnapshot = "volume.snapshot"
	kindVolumeReverted = "volume.reverted"
	kindVolumeResized  = "volume.resized"
	kindVolumeRenamed  = "volume.renamed"
	kindVolumeDeleted  = "volume.deleted"
	kindVolumeImported = "volume.imported"
)

// A diskConn is the disk process's end of a connection to a core process.
type diskConn struct {
	*Disk
	conn *ipc.Conn
	// targets are those that came before the rest of them.
	targets []block.Target

	telling  sync.Mutex // guards the following
	told     DiskHealth
	isTold   bool
	volumes  *teller[block.Info]
	sessions *teller[block.Session]
	jobs     *teller[block.Job]
	served   *teller[ServedTarget]
}

// Serve answers a core process until the connection or ctx ends, and closes the
// connection.
func (d *Disk) Serve(ctx context.Context, c *ipc.Conn) error {
	s := &diskConn{Disk: d, conn: c,
		volumes: newTeller(diskVolumes, volumeKey), sessions: newTeller(diskSessions, sessionKey),
		jobs: newTeller(diskJobs, jobKey), served: newTeller(diskServed, servedKey)}
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	subscribed := false
	return c.Run(ctx, func(_ context.Context, m ipc.Message, file *os.File) (any, error) {
		if m.Type == diskSubscribe && !subscribed && file == nil {
			subscribed = true
			return ipc.Later(func(context.Context) (any, error) {
				if err := s.tell(); err != nil {
					return nil, err
				}
				// Both end with the connection, and nobody is left to be told why.
				tasks.Go(func() { s.follow(ctx) })
				tasks.Go(func() {
					d.events.Deliver(ctx, c, func(e Event, err error) {
						d.log.Error("core refused an event", "kind", e.Kind, "error", err)
					})
				})
				return nil, nil
			}), nil
		}
		answer, err := s.handle(m, file)
		return answer, withCode(err)
	})
}

// handle takes a message. The file is a pipe's end, of which somebody has to be the
// owner.
func (s *diskConn) handle(m ipc.Message, file *os.File) (any, error) {
	if piped := m.Type == diskImport || m.Type == diskExport; piped && file != nil && m.ID != 0 {
		return s.handlePipe(m, file)
	} else if piped && file == nil {
		return nil, fmt.Errorf("%s without a file", m.Type)
	}
	if file != nil {
		return nil, errors.Join(fmt.Errorf("%s with a file", m.Type), file.Close())
	}
	switch m.Type {
	case diskHello:
		return s.hello, nil
	case diskComplete:
		return nil, into(m, func(v jobMessage) { s.tellJob(v.Job, (*diskJob).completed) })
	case diskCancel:
		return nil, into(m, func(v jobMessage) { s.tellJob(v.Job, func(j *diskJob) { j.cancel() }) })
	case diskTargets:
		return s.takeTargets(m)
	case diskCreate:
		return request(s, m, func(ctx context.Context, v createMessage) (any, error) {
			i, err := s.Disk.volumes.Create(ctx, v.Request)
			what := fmt.Sprintf("The volume %s was made: %s.", i.Name, bytesText(i.Size))
			if v.Request.Clone != "" {
				what = fmt.Sprintf("The volume %s was made as a clone of %s: %s.", i.Name, v.Request.Clone, bytesText(i.Size))
			}
			return s.done(i, err, kindVolumeCreated, v.From, what)
		})
	case diskSnapshot:
		return request(s, m, func(ctx context.Context, v volumeMessage) (any, error) {
			i, err := s.Disk.volumes.Snapshot(ctx, v.Volume, v.Name)
			return s.done(i, err, kindVolumeSnapshot, v.From, fmt.Sprintf("The snapshot %s of the volume %s was taken.", v.Name, v.Volume))
		})
	case diskRevert:
		return request(s, m, func(ctx context.Context, v volumeMessage) (any, error) {
			err := s.iscsi.without(v.Volume, func() error { return s.Disk.volumes.Revert(ctx, v.Volume, v.Name) })
			return s.done(nil, err, kindVolumeReverted, v.From, fmt.Sprintf("The volume %s was taken back to the snapshot %s.", v.Volume, v.Name))
		})
	case diskResize:
		return request(s, m, func(ctx context.Context, v volumeMessage) (any, error) {
			err := s.Disk.volumes.Resize(ctx, v.Volume, v.Size)
			return s.done(nil, err, kindVolumeResized, v.From, fmt.Sprintf("The volume %s has %s now.", v.Volume, bytesText(v.Size)))
		})
	case diskRename:
		return request(s, m, func(ctx context.Context, v volumeMessage) (any, error) {
			err := s.Disk.volumes.Rename(ctx, v.Volume, v.Name)
			return s.done(nil, err, kindVolumeRenamed, v.From, fmt.Sprintf("The volume %s is called %s now.", v.Volume, v.Name))
		})
	case diskDelete:
		return request(s, m, func(ctx context.Context, v volumeMessage) (any, error) {
			err := s.Disk.volumes.Delete(ctx, v.Volume)
			if err == nil {
				s.iscsi.sweepReservations()
			}
			return s.done(nil, err, kindVolumeDeleted, v.From, fmt.Sprintf("The volume %s was deleted.", v.Volume))
		})
	case diskVerify:
		return request(s, m, func(ctx context.Context, v volumeMessage) (any, error) {
			return nil, s.Disk.volumes.Verify(ctx, v.Volume)
		})
	}
	return nil, fmt.Errorf("%s: %w", m.Type, errors.ErrUnsupported)
}

// handlePipe takes an import or an export. The job is known from here on, so that a
// cancellation which is on its way finds it.
func (s *diskConn) handlePipe(m ipc.Message, file *os.File) (any, error) {
	var in importMessage
	var out exportMessage
	var err error
	if m.Type == diskImport {
		err = m.Into(&in)
	} else {
		err = m.Into(&out)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	select {
	case s.long <- struct{}{}:
	default:
		return nil, errors.Join(errBusy, file.Close())
	}
	var j *diskJob
	if m.Type == diskImport {
		j, err = s.begin(in.Job, in.Request.Name, "import", in.Request.Length)
	} else {
		j, err = s.begin(out.Job, out.Volume, "export", 0)
	}
	if err != nil {
		<-s.long
		return nil, errors.Join(err, file.Close())
	}
	return ipc.Later(func(ctx context.Context) (any, error) {
		defer func() { <-s.long }()
		if m.Type == diskExport {
			return s.done(nil, s.exportVolume(ctx, j, out.Format, file), "", host.Origin{}, "")
		}
		i, err := s.importVolume(ctx, j, in.Request, file)
		return s.done(i, err, kindVolumeImported, in.From, fmt.Sprintf("The volume %s was imported: %s.", i.Name, bytesText(i.Size)))
	}), nil
}

// request reads what a request asks for, and has do do it beside others.
func request[T any](s *diskConn, m ipc.Message, do func(context.Context, T) (any, error)) (any, error) {
	var v T
	if m.ID == 0 {
		return nil, fmt.Errorf("%s that wants no answer", m.Type)
	}
	if err := m.Into(&v); err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return nil, errBusy
	}
	return ipc.Later(func(ctx context.Context) (any, error) {
		defer func() { <-s.slots }()
		answer, err := do(ctx, v)
		return answer, withCode(err)
	}), nil
}

// into reads what is told.
func into[T any](m ipc.Message, take func(T)) error {
	var v T
	if err := m.Into(&v); err != nil {
		return err
	}
	take(v)
	return nil
}

// done reports what was asked for and has happened, and tells core the state as it
// is now, before the answer.
func (s *diskConn) done(answer any, err error, kind string, from host.Origin, message string) (any, error) {
	if err != nil {
		return nil, withCode(err)
	}
	if kind != "" {
		s.Report(Event{Severity: OK, Kind: kind, Message: message, Origin: from})
	}
	return answer, s.tell()
}

// takeTargets takes a part of the targets, and exports them once all are there.
func (s *diskConn) takeTargets(m ipc.Message) (any, error) {
	var v targetsMessage
	if err := m.Into(&v); err != nil {
		return nil, err
	}
	if v.First {
		s.targets = nil
	}
	if len(s.targets)+len(v.List) > maxTargets {
		return nil, fmt.Errorf("more than %d targets", maxTargets)
	}
	s.targets = append(s.targets, v.List...)
	if v.More {
		return nil, nil
	}
	all := s.targets
	s.targets = nil
	if m.ID == 0 {
		return nil, fmt.Errorf("%s that want no answer", m.Type)
	}
	// Other requests hold no revocation up. Core has one of these at a time, but for those
	// that it has given up.
	select {
	case s.changes <- struct{}{}:
	default:
		return nil, errBusy
	}
	turn := s.iscsi.turn()
	return ipc.Later(func(context.Context) (any, error) {
		defer func() { <-s.changes }()
		return s.done(nil, s.iscsi.setInTurn(turn, v.Enabled, all), "", host.Origin{}, "")
	}), nil
}

// tell sends what of the state has not been told.
func (s *diskConn) tell() error {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	health := s.health
	jobs := make([]block.Job, len(s.Disk.jobs))
	for i, j := range s.Disk.jobs {
		jobs[i] = j.Job
	}
	s.mu.Unlock()
	health.ISCSI = s.iscsi.address()
	if !s.isTold || health != s.told {
		if err := s.conn.Tell(diskHealth, health, nil); err != nil {
			return err
		}
		s.isTold, s.told = true, health
	}
	volumes := s.Disk.volumes.List()
	for i := range volumes {
		volumes[i].Failed = told(volumes[i].Failed)
	}
	if err := s.volumes.tell(s.conn, volumes); err != nil {
		return err
	}
	if err := s.sessions.tell(s.conn, s.iscsi.sessions()); err != nil {
		return err
	}
	if err := s.jobs.tell(s.conn, append(jobs, s.Disk.volumes.Merges()...)); err != nil {
		return err
	}
	return s.served.tell(s.conn, s.iscsi.served())
}

// follow tells each change of the state, until ctx or the connection ends.
func (s *diskConn) follow(ctx context.Context) {
	for {
		s.mu.Lock()
		own := s.changed
		s.mu.Unlock()
		volumes, sessions := s.Disk.volumes.Changed(), s.iscsi.changed()
		if s.tell() != nil {
			return // the connection has ended, as who serves it sees
		}
		select {
		case <-own:
		case <-volumes:
		case <-sessions:
		case <-time.After(diskLook): // how much room volumes take
		case <-ctx.Done():
			return
		}
		pause(ctx, tellPause)
	}
}

// bytesText is a size for people, exact.
func bytesText(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	unit := 0
	for ; n != 0 && n%1024 == 0 && unit < len(units)-1; unit++ {
		n /= 1024
	}
	return fmt.Sprintf("%d %s", n, units[unit])
}
