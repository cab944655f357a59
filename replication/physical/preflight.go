package physical

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// PortError is a port that a node cannot have.
type PortError struct {
	Node    string
	Address string
	Port    int
	// PID and Command are who listens there; 0 and "" if that could not be found out.
	PID     int
	Command string
	Err     error
}

func (e *PortError) Error() string {
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE) && e.PID > 0:
		return fmt.Sprintf("port %d of node %s is in use by %s (pid %d)", e.Port, e.Node, e.Command, e.PID)
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return fmt.Sprintf("port %d of node %s is in use on %s by a process that cannot be seen from here", e.Port, e.Node, e.Address)
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("address %s of node %s does not belong to this host", e.Address, e.Node)
	}
	return fmt.Sprintf("port %d of node %s on %s cannot be used: %v", e.Port, e.Node, e.Address, e.Err)
}

func (e *PortError) Unwrap() error { return e.Err }

// Preflight tells whether a node that does not run could listen on its address and port, and if not, who is in the way. It
// touches nothing. Do not ask it for a node whose server is running.
func Preflight(ctx context.Context, node, address string, port int) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", hostPort(address, port))
	if err == nil {
		return ln.Close()
	}
	e := &PortError{Node: node, Address: address, Port: port, Err: err}
	if errors.Is(err, syscall.EADDRINUSE) {
		e.PID, e.Command = Listener(port)
	}
	return e
}

// Listener finds who listens on a TCP port: the socket's inode from /proc/net/tcp and tcp6, its owner from /proc/*/fd.
func Listener(port int) (pid int, command string) {
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			if inode, ok := listening(sc.Text(), port); ok {
				inodes["socket:["+inode+"]"] = true
			}
		}
		f.Close()
	}
	if len(inodes) == 0 {
		return 0, ""
	}
	lowest := 0
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well formed
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[target] {
			continue
		}
		// Children inherit the socket; the lowest pid is the likeliest parent.
		if p, err := strconv.Atoi(strings.Split(fd, "/")[2]); err == nil && (lowest == 0 || p < lowest) {
			lowest = p
		}
	}
	if lowest == 0 {
		return 0, ""
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", lowest))
	if err != nil {
		return lowest, "an unknown program"
	}
	return lowest, strings.TrimSpace(string(name))
}

// listening reads a line of /proc/net/tcp (proc_net_tcp(5)): state 0A is LISTEN, the tenth field the inode.
func listening(line string, port int) (inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != "0A" {
		return "", false
	}
	_, hexPort, found := strings.Cut(f[1], ":")
	p, err := strconv.ParseUint(hexPort, 16, 16)
	return f[9], found && err == nil && int(p) == port
}
