package console

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"time"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// MonitorConfig is what the plain-text monitor needs.
type MonitorConfig struct {
	Log    *slog.Logger
	Source Source
	// AllowRemote lets the monitor, which asks for no password, listen beyond this host.
	AllowRemote bool
	// Timeout bounds a connection (default 5 s).
	Timeout time.Duration
}

// monitorLimit is the most connections to the monitor at a time.
const monitorLimit = 64

// ListenMonitor opens the monitor's port. An address that can be reached from other hosts is refused, before anything
// listens, unless allowRemote says that this is wanted.
func ListenMonitor(ctx context.Context, address string, allowRemote bool) (net.Listener, error) {
	if !allowRemote {
		local, err := onlyLoopback(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("monitor: %w", err)
		}
		if !local {
			return nil, remoteMonitor(address)
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("monitor: listen on %s: %w", address, err)
	}
	return l, nil
}

func remoteMonitor(address string) error {
	return fmt.Errorf("monitor: %s can be reached from other hosts, and the monitor asks for no password: "+
		"use a loopback address such as 127.0.0.1:9881, or allow it explicitly", address)
}

// ServeMonitor answers each connection with pgrouter's monitoring text and closes it. It blocks until ctx ends and all
// connections are closed. A listener that can be reached from other hosts is refused as in ListenMonitor.
func ServeMonitor(ctx context.Context, l net.Listener, cfg MonitorConfig) error {
	if addr, ok := l.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() && !cfg.AllowRemote {
		l.Close()
		return remoteMonitor(addr.String())
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	s := server{log: cfg.Log, limit: monitorLimit, handle: func(ctx context.Context, conn net.Conn) {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		tell(conn, monitorText(cfg.Source.Snapshot(), cfg.Source.Router(), runtime.GOMAXPROCS(0)), cfg.Timeout)
	}}
	return s.run(ctx, l)
}

// tell sends the text. Closing while there is unread input would reset the connection and could take the text with it,
// so whatever the client has said is read for a moment.
func tell(conn net.Conn, text []byte, timeout time.Duration) {
	if conn.SetDeadline(time.Now().Add(timeout)) != nil {
		return
	}
	if _, err := conn.Write(text); err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(min(timeout, time.Second)))
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 64<<10))
	}
}

// monitorText gives pgrouter's format (its words are its own):
//
//	backends <up>/<total>
//	workers <threads that work for clients: GOMAXPROCS here>
//	clients <client connections>
//	connections <connections to servers>
//	<host:port> master OK 0 | slave OK <lag in bytes> | master FAILED | slave FAILED | … STARTING
//
// one line for each coordinator, the primary first. OK: the server answers. STARTING: it has not answered yet, and
// nothing says that it will not. FAILED: it does not answer.
func monitorText(snap cluster.Snapshot, v View, workers int) []byte {
	var lines []byte
	up := 0
	for _, primary := range []bool{true, false} {
		for _, s := range v.Servers {
			if (s.Role == cluster.Primary) != primary {
				continue
			}
			status := monitorStatus(s, snap.Nodes[s.Name])
			lines = append(lines, s.Address...)
			if primary {
				lines = append(lines, " master "...)
			} else {
				lines = append(lines, " slave "...)
			}
			lines = append(lines, status...)
			if status == "OK" {
				up++
				lag := s.LagBytes
				if primary {
					lag = 0
				}
				lines = strconv.AppendUint(append(lines, ' '), lag, 10)
			}
			lines = append(lines, '\n')
		}
	}
	head := fmt.Appendf(nil, "backends %d/%d\nworkers %d\nclients %d\nconnections %d\n", up, len(v.Servers), workers, len(v.Clients), len(v.Connections))
	return append(head, lines...)
}

func monitorStatus(s Server, reported cluster.NodeStatus) string {
	switch {
	case s.Says != cluster.RoleUnknown && (s.Role == cluster.Primary || s.LagKnown || s.LagBytes > 0):
		return "OK"
	case s.Says != cluster.RoleUnknown:
		return "STARTING" // it answers, and its lag is not known yet
	case !s.SampledAt.IsZero():
		return "FAILED"
	case reported.State == cluster.NodeFailed || reported.State == cluster.NodeStopped:
		return "FAILED"
	default:
		return "STARTING"
	}
}
