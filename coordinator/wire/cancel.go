package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// Cancel asks a server to cancel what the session with the key is doing, and waits until the server has taken note
// (it closes the connection). Whether there was anything to cancel is never said. ctx bounds the whole; without a
// deadline it ends after a minute.
func Cancel(ctx context.Context, network, address string, key CancelKey) error {
	if len(key.Secret) < 4 || len(key.Secret) > maxSecret {
		return fmt.Errorf("cancel on server %s: the secret has %d bytes, not 4 to %d", address, len(key.Secret), maxSecret)
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return fmt.Errorf("cancel on server %s: %w", address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(AppendCancelRequest(nil, key)); err != nil {
		return fmt.Errorf("cancel on server %s: %w", address, err)
	}
	// The server answers nothing; its end of the connection tells that the signal has been sent.
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil && ctx.Err() != nil {
		return fmt.Errorf("cancel on server %s: %w", address, context.Cause(ctx))
	}
	return nil
}

// AppendCancelRequest adds a CancelRequest packet.
func AppendCancelRequest(dst []byte, key CancelKey) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(key.Secret)))
	dst = binary.BigEndian.AppendUint32(dst, cancelRequestCode)
	dst = binary.BigEndian.AppendUint32(dst, key.PID)
	return append(dst, key.Secret...)
}
