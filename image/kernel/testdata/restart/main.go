// Restart is an init that restarts the machine with its arguments as reboot(2)'s,
// or, with the argument "panic", ends and so makes the kernel panic.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	argument := strings.Join(os.Args[1:], " ")
	fmt.Printf("restart: %q\n", argument)
	if argument == "panic" {
		return
	}
	text, err := unix.BytePtrFromString(argument)
	if err != nil {
		fmt.Println("restart:", err)
		return
	}
	if err := restart(text); err != nil {
		fmt.Println("restart:", err)
	}
}
