// Package session holds what a process has in the agreed state only while it lives: its presence (agents/<host>,
// routers/<id>) with its reports, and an agent's right to let a server be primary (groups/<id>/grant).
//
// Level: service on store.Store.
//
// A Session is presence:
//
//	        key absent, or its owner dead              lease or key gone, or not renewed for its TTL
//	open ──────────────────────────────▶ held ─────────────────────────────────────────────────▶ lost
//	  │                                   ▲ │                                                       │
//	  │ another lives: TakenError         │ └── Close: lease revoked, key and reports gone          │
//	  ▼                                   └──────────────── key absent: taken again ◀───────────────┘
//	refused
//
// It renews itself until Close. It is not a right to act: a session that has just been lost may still look held for a
// moment. Its writes are fenced by the creation of its key, so they are refused from then on.
//
// A Grant is a right, so it does not renew itself: whoever holds it renews it and tells the guard until when the server
// may be primary, counted from the moment at which the last successful renewal began (CLOCK_BOOTTIME, which counts
// suspended time and is comparable between the processes of a host). A renewal is a keepalive of our own lease: it never writes
// the key and never creates it anew, so a holder that was frozen cannot take the right back from its successor.
//
// Nobody but the holder's lease may remove the key of a grant: who deletes it by hand while its holder lives makes room for a
// second primary for as long as the holder's right lasts.
//
// The package never decides who should be primary and never talks to a guard.
package session
