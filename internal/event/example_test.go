package event_test

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/eventissuer/eventissuer/internal/event"
)

func ExampleParse() {
	e, err := event.Parse([]byte(`{"specversion":"1.0","id":"1","source":"/trains","type":"no.banenor.train.position.v1","delay":-12,"data":{"lat":60.79}}`))
	if err != nil {
		panic(err)
	}
	delay, _ := e.Attribute("delay")
	fmt.Println(e.Type(), delay.Int(), string(e.Data()))

	_, err = event.Parse([]byte(`{"specversion":"1.0","id":"","source":"/trains","type":"t"}`))
	var problems *event.Error
	if errors.As(err, &problems) {
		fmt.Println(problems.Problems[0])
	}
	// Output:
	// no.banenor.train.position.v1 -12 {"lat":60.79}
	// /id: the required attribute is empty; expected a non-empty string
}

func ExampleReadRequest() {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("ce-specversion", "1.0")
	h.Set("ce-id", "1")
	h.Set("ce-source", "/trains")
	h.Set("ce-type", "no.banenor.train.position.v1")
	h.Set("ce-station", "Troms%C3%B8")
	items, _, err := event.ReadRequest(h, []byte(`{"lat":69.65}`), event.Limits{})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(items[0].Event.JSON()))
	// Output:
	// {"id":"1","source":"/trains","specversion":"1.0","station":"Tromsø","type":"no.banenor.train.position.v1","datacontenttype":"application/json","data":{"lat":69.65}}
}
