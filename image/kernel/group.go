package kernel

import (
	"os/exec"
	"syscall"
	"time"
)

// inOwnGroup makes the end of a command's context end all that it started: make
// killed alone would leave its compilers running in a folder that is removed.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
}
