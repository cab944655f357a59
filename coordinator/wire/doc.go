// Package wire speaks the PostgreSQL protocol at its edges: frames, start-up, authentication in both directions,
// cancel requests, and the few messages that are decoded or made here instead of being passed on as they are.
//
// Level: adapter, directly above the net package. It knows no session, no pool and no route.
//
// Duties:
//   - ReadStartup takes a fresh client connection from its first byte to the StartupMessage or CancelRequest.
//   - AuthenticateClient is the server's side of SCRAM-SHA-256, and recovers the client's keys from its proof.
//   - Connect and Cancel are the client's side towards PostgreSQL servers.
//   - Reader cuts a stream into frames without copying them; large messages can be relayed in pieces.
//   - Decode… and Append… handle single messages.
//
// What comes from the network is hostile until proved otherwise: nothing here panics on it, and memory grows with
// the bytes that have arrived, never with a length that was merely claimed.
//
// It never logs, never retries, and never keeps a password longer than the call that needs it.
package wire
