package media

import (
	"errors"
	"fmt"
	"syscall"
)

// Requests are refused with one of these. Compare with errors.Is.
var (
	// ErrScheme: the image is neither an http or https URL nor a path of the
	// library.
	ErrScheme = errors.New("only http and https URLs and images of the library can be inserted")
	// ErrOccupied: the drive has a medium, which has to be ejected first.
	ErrOccupied = errors.New("the drive has a medium already")
	// ErrEmpty: the drive has no medium.
	ErrEmpty = errors.New("the drive has no medium")
	// ErrBusy: another insertion or ejection is under way.
	ErrBusy = errors.New("the drive is being changed by another request")
	// ErrKind: the drive has no media of that kind.
	ErrKind = errors.New("the drive has no media of that kind")
	// ErrNotFound: the library has no such image.
	ErrNotFound = errors.New("there is no such image")
	// ErrName: the name cannot be that of an image.
	ErrName = errors.New("an image's name has 1 to 128 letters, digits, and . _ - +, and does not begin with a dot")
	// ErrInUse: the image is in a drive; one that can be written fits into no
	// other.
	ErrInUse = errors.New("the image is in a drive")
	// ErrContent: the image is empty, far too large, or came in another length than
	// announced.
	ErrContent = errors.New("the image is empty, incomplete or too large")
	// ErrFull: there is no room for the image. It is also syscall.ENOSPC.
	ErrFull = fmt.Errorf("there is no room left for media: %w", syscall.ENOSPC)
	// ErrUnreachable: the server does not give the image. It wraps the cause.
	ErrUnreachable = errors.New("the image cannot be read from its server")
	// ErrChanged: the server has another image under the URL than the one that
	// was inserted.
	ErrChanged = errors.New("the image on the server has changed")
	// ErrStopped: the service is ending.
	ErrStopped = errors.New("the media service is not running")
)
