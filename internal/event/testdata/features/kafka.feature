Feature: Kafka protocol binding
  CloudEvents Kafka Protocol Binding 1.0.2

  Scenario: binary content mode (section 3.2)
    Given a record with the value "{"a":1}" and the headers:
      | name           | value                           |
      | ce_specversion | 1.0                             |
      | ce_type        | com.example.someevent           |
      | ce_source      | /mycontext/subcontext           |
      | ce_id          | 1234-1234-1234                  |
      | ce_time        | 2018-04-05T03:56:24Z            |
      | ce_station     | Tromsø 100%25                   |
      | content-type   | application/json; charset=UTF-8 |
    When the record is read
    Then the event is valid
    And its attributes are:
      | name            | kind   | value                           |
      | specversion     | String | 1.0                             |
      | type            | String | com.example.someevent           |
      | source          | String | /mycontext/subcontext           |
      | id              | String | 1234-1234-1234                  |
      | time            | String | 2018-04-05T03:56:24Z            |
      | station         | String | Tromsø 100%25                   |
      | datacontenttype | String | application/json; charset=UTF-8 |
    And its data is {"a":1}

  Scenario: structured content mode (section 3.3)
    Given a record with the value "{"specversion":"1.0","id":"1","source":"/s","type":"t"}" and the headers:
      | name         | value                                       |
      | content-type | application/cloudevents+json; charset=UTF-8 |
    When the record is read
    Then the event is valid
    And it is forwarded as it came

  Scenario: an unknown event format (section 3)
    Given a record with the value "x" and the headers:
      | name         | value                           |
      | content-type | application/cloudevents+unknown |
    When the record is read
    Then the event is refused at ""

  Scenario: what is written in the structured mode (section 3.3)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}
      """
    And it is written to a record in the structured mode
    Then the headers are:
      | name         | value                                       |
      | content-type | application/cloudevents+json; charset=UTF-8 |
    And the body is "{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}"

  Scenario: what is written in the binary mode (section 3.2)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","x":"Tromsø 100%","n":5,"datacontenttype":"application/octet-stream","data_base64":"aGVp"}
      """
    And it is written to a record in the binary mode
    Then the headers are:
      | name           | value                    |
      | ce_specversion | 1.0                      |
      | ce_id          | 1                        |
      | ce_source      | /s                       |
      | ce_type        | t                        |
      | ce_x           | Tromsø 100%              |
      | ce_n           | 5                        |
      | content-type   | application/octet-stream |
    And the body is "hei"
