package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Certificates is a certificate and its key in files, loaded again when they change.
type Certificates struct {
	// static
	certFile, keyFile string
	log               *slog.Logger

	current atomic.Pointer[tls.Certificate]
	stamp   fileStamp // owned by Watch once it runs
}

type fileStamp struct {
	cert, key         time.Time
	certSize, keySize int64
}

// LoadCertificates loads PEM files; both must be there and belong together.
func LoadCertificates(certFile, keyFile string, log *slog.Logger) (*Certificates, error) {
	c := &Certificates{certFile: certFile, keyFile: keyFile, log: log}
	stamp, err := c.look()
	if err == nil {
		err = c.load()
	}
	if err != nil {
		return nil, fmt.Errorf("load the TLS certificate: %w", err)
	}
	c.stamp = stamp
	return c, nil
}

// Watch looks at the files every interval until ctx ends, and loads them when they have changed. Files that do not
// belong together, as in the middle of a renewal, are tried again at the next look; the old certificate stays until then.
func (c *Certificates) Watch(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var told fileStamp
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		stamp, err := c.look()
		if err == nil && stamp == c.stamp {
			continue
		}
		if err == nil {
			err = c.load()
		}
		if err != nil {
			if stamp != told {
				c.log.Warn("the TLS certificate has changed but cannot be loaded; the old one stays", "error", err)
				told = stamp
			}
			continue
		}
		c.stamp = stamp
		c.log.Info("the TLS certificate was loaded again", "file", c.certFile)
	}
}

// ClientConfig is for clients inside this process: they trust exactly the certificate that is being served, whatever
// name it is for.
func (c *Certificates) ClientConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the name need not be this machine's; the certificate itself is compared instead
		VerifyConnection: func(state tls.ConnectionState) error {
			served := c.current.Load().Certificate
			if len(state.PeerCertificates) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, served[0]) {
				return errors.New("the peer serves another certificate than this process")
			}
			return nil
		},
	}
}

func (c *Certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

func (c *Certificates) look() (fileStamp, error) {
	cert, err := os.Stat(c.certFile)
	if err != nil {
		return fileStamp{}, err
	}
	key, err := os.Stat(c.keyFile)
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func (c *Certificates) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current.Store(&pair)
	return nil
}
