//go:build tools

// Package nsq pins the NSQ daemons that the tests talk to; tools/install-nsq builds them.
package nsq

import (
	_ "github.com/nsqio/nsq/apps/nsqd"
	_ "github.com/nsqio/nsq/apps/nsqlookupd"
)
