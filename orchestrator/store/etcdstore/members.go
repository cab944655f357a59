package etcdstore

import (
	"context"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// Member is one etcd server as seen from here.
type Member struct {
	Name     string
	ID       uint64
	Endpoint string // the client URL that was asked; "" when the member has none
	Healthy  bool   // it answered, knows a leader and has no alarm
	Leader   bool
	Learner  bool
	Version  string
	DBSize   int64 // bytes on disk
	// Err says why the member is not healthy.
	Err string
}

const statusTimeout = 2 * time.Second

// Members asks for etcd's members and each of them for its status (2 s at most). The list itself comes through
// the quorum; ErrUnavailable when there is none.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	list, err := func() (*clientv3.MemberListResponse, error) {
		ctx, cancel := s.bounded(ctx)
		defer cancel()
		return s.client.MemberList(ctx)
	}()
	if err != nil {
		return nil, s.wrap("list the members of etcd", err)
	}
	members := make([]Member, len(list.Members))
	var g errgroup.Group
	for i, m := range list.Members {
		members[i] = Member{Name: m.Name, ID: m.ID, Learner: m.IsLearner}
		urls := m.ClientURLs
		if len(list.Members) == 1 {
			// A single member is the one that we are connected to, under whatever address.
			urls = append(slices.Clone(s.cfg.Endpoints), urls...)
		}
		g.Go(func() error {
			s.ask(ctx, &members[i], urls)
			return nil
		})
	}
	_ = g.Wait()
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return members, nil
}

func (s *Store) ask(ctx context.Context, m *Member, urls []string) {
	if len(urls) == 0 {
		m.Err = "has not started yet"
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	for _, u := range urls {
		m.Endpoint = u
		st, err := s.client.Status(ctx, u)
		if err != nil {
			m.Err = plain(err)
			continue
		}
		m.Version, m.DBSize = st.Version, st.DbSize
		m.Leader = st.Leader == st.Header.MemberId
		m.Healthy, m.Err = true, ""
		if st.Leader == 0 {
			m.Healthy, m.Err = false, "has no leader"
		} else if len(st.Errors) > 0 {
			m.Healthy, m.Err = false, strings.Join(st.Errors, "; ")
		}
		return
	}
}
