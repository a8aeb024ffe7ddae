package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisClient makes a client of what --redis-url describes: one server, a cluster, or servers watched by sentinels.
// retries is as go-redis's MaxRetries: 0 for its default, -1 for none. It connects to nothing yet.
func (c *Config) redisClient(retries int) (redis.UniversalClient, error) {
	password, err := secret(c.RedisPasswordFile)
	if err != nil {
		return nil, err
	}
	client, err := newRedis(c.RedisURL, password, retries)
	if err != nil {
		return nil, fmt.Errorf("--redis-url %s: %w", withoutPassword(c.RedisURL), err)
	}
	return client, nil
}

func newRedis(text, password string, retries int) (redis.UniversalClient, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, fmt.Errorf("write redis://host:port, rediss://…, redis+cluster://… or redis+sentinel://…")
	}
	plain, kind, _ := strings.Cut(scheme, "+")
	if plain != "redis" && plain != "rediss" {
		return nil, fmt.Errorf("the scheme %q is not known: write redis, rediss, redis+cluster, rediss+cluster, redis+sentinel or rediss+sentinel", scheme)
	}
	first, query, path := splitHosts(rest)
	silent := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch kind {
	case "":
		o, err := redis.ParseURL(text)
		if err != nil {
			return nil, withoutURL(err)
		}
		if password != "" {
			o.Password = password
		}
		o.MaintNotificationsConfig = silent
		o.ContextTimeoutEnabled = true // or a silent Redis would hold up every session's start for seconds
		if retries != 0 {
			o.MaxRetries = retries
		}
		return redis.NewClient(o), nil
	case "cluster":
		o, err := redis.ParseClusterURL(plain + "://" + first + path + query)
		if err != nil {
			return nil, withoutURL(err)
		}
		if password != "" {
			o.Password = password
		}
		o.MaintNotificationsConfig = silent
		o.ContextTimeoutEnabled = true
		if retries != 0 {
			// A cluster's client repeats by this number what was not answered, too. A command that a node sends elsewhere
			// is then an error; the client has learned of it, and the next one goes there.
			o.MaxRetries, o.MaxRedirects = retries, retries
		}
		return redis.NewClusterClient(o), nil
	case "sentinel":
		master, db, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if master == "" {
			return nil, fmt.Errorf("name the master after the sentinels: redis+sentinel://host:port,host:port/master")
		}
		more := "&master_name=" + url.QueryEscape(master)
		if db != "" {
			more += "&db=" + url.QueryEscape(db)
		}
		o, err := redis.ParseFailoverURL(plain + "://" + first + "/" + query + more)
		if err != nil {
			return nil, withoutURL(err)
		}
		if password != "" {
			o.Password = password
		}
		o.ContextTimeoutEnabled = true
		if retries != 0 {
			o.MaxRetries = retries
		}
		return redis.NewFailoverClient(o), nil
	}
	return nil, fmt.Errorf("%q is not known: write redis+cluster or redis+sentinel", scheme)
}

// splitHosts takes "user:password@a:1,b:2/path?query" apart: the authority with the first host alone, a query that
// names the other hosts as go-redis wants them, and the path.
func splitHosts(rest string) (first, query, path string) {
	rest, query, _ = strings.Cut(rest, "?")
	authority, path, found := strings.Cut(rest, "/")
	if found {
		path = "/" + path
	}
	user := ""
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, authority = authority[:at+1], authority[at+1:]
	}
	hosts := strings.Split(authority, ",")
	var parts []string
	if query != "" {
		parts = append(parts, query)
	}
	for _, host := range hosts[1:] {
		parts = append(parts, "addr="+url.QueryEscape(host))
	}
	return user + hosts[0], "?" + strings.Join(parts, "&"), path
}

// withoutURL keeps a password out of messages: errors of net/url repeat the address.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// withoutPassword masks the password in a URL that may have several hosts.
func withoutPassword(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	authority, tail, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	if at < 0 {
		return text
	}
	user, _, hasPassword := strings.Cut(authority[:at], ":")
	if !hasPassword {
		return text
	}
	masked := scheme + "://" + user + ":xxxxx" + authority[at:]
	if tail != "" {
		masked += "/" + tail
	}
	return masked
}
