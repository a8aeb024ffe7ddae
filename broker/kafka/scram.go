package kafka

import (
	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

func newSCRAM256() sarama.SCRAMClient { return &scramClient{hash: scram.SHA256} }
func newSCRAM512() sarama.SCRAMClient { return &scramClient{hash: scram.SHA512} }

// scramClient lets sarama hold a SCRAM conversation (RFC 5802) by xdg-go/scram.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

// Begin starts a conversation for one connection.
func (c *scramClient) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	c.conversation = client.NewConversation()
	return nil
}

// Step answers the server's challenge.
func (c *scramClient) Step(challenge string) (string, error) { return c.conversation.Step(challenge) }

// Done says whether the conversation is over.
func (c *scramClient) Done() bool { return c.conversation.Done() }
