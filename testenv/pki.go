package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki are the files of a certificate authority that lives for one test, with a certificate for a server on the
// loopback addresses and one for a client.
type pki struct {
	ca, serverCert, serverKey, clientCert, clientKey string
}

func (e *Env) pki(name string) pki {
	e.TB.Helper()
	e.Mkdir(name, 0o755, nil)
	p := pki{
		ca:         e.Path(name, "ca.pem"),
		serverCert: e.Path(name, "server.pem"), serverKey: e.Path(name, "server.key"),
		clientCert: e.Path(name, "client.pem"), clientKey: e.Path(name, "client.key"),
	}
	if err := writePKI(p); err != nil {
		e.TB.Fatalf("make certificates: %v", err)
	}
	return p
}

func writePKI(p pki) error {
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
	}
	authority := template(1, "test authority")
	authority.IsCA, authority.BasicConstraintsValid = true, true
	authority.KeyUsage = x509.KeyUsageCertSign
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeCert(p.ca, "", authority, authority, caKey, caKey); err != nil {
		return err
	}
	server := template(2, "localhost")
	server.DNSNames = []string{"localhost"}
	for _, addr := range loopback() {
		server.IPAddresses = append(server.IPAddresses, net.ParseIP(addr))
	}
	// etcd's gateway connects to its own port with the server's certificate.
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	client := template(3, "client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, c := range []struct {
		cert, key string
		template  *x509.Certificate
	}{{p.serverCert, p.serverKey, server}, {p.clientCert, p.clientKey, client}} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		if err := writeCert(c.cert, c.key, c.template, authority, key, caKey); err != nil {
			return err
		}
	}
	return nil
}

// writeCert signs a certificate for key and writes both; keyFile may be empty.
func writeCert(certFile, keyFile string, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("sign %s: %w", filepath.Base(certFile), err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(certFile, block, 0o644); err != nil {
		return err
	}
	if keyFile == "" {
		return nil
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600)
}

// clientTLS reads what a client needs.
func clientTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	pemCA, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pemCA) {
		return nil, fmt.Errorf("no certificate in %s", caFile)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
