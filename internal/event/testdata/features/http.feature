Feature: HTTP protocol binding
  CloudEvents HTTP Protocol Binding 1.0.2

  Scenario: binary content mode (section 3.1)
    Given the header "ce-specversion" is "1.0"
    And the header "ce-type" is "com.example.someevent"
    And the header "ce-time" is "2018-04-05T03:56:24Z"
    And the header "ce-id" is "1234-1234-1234"
    And the header "ce-source" is "/mycontext/subcontext"
    And the header "Content-Type" is "application/json; charset=utf-8"
    When the request is read with this body:
      """
      {"a":1}
      """
    Then the event is valid
    And its attributes are:
      | name            | kind   | value                           |
      | specversion     | String | 1.0                             |
      | type            | String | com.example.someevent           |
      | time            | String | 2018-04-05T03:56:24Z            |
      | id              | String | 1234-1234-1234                  |
      | source          | String | /mycontext/subcontext           |
      | datacontenttype | String | application/json; charset=utf-8 |
    And its data is {"a":1}

  Scenario: names of headers are case-insensitive (section 3.1.3.1)
    Given the header "CE-SPECVERSION" is "1.0"
    And the header "Ce-Type" is "t"
    And the header "cE-iD" is "1"
    And the header "ce-SOURCE" is "/s"
    When the request is read with this body:
      """
      """
    Then the event is valid
    And it has no data

  Scenario Outline: values are percent-decoded (section 3.1.3.2)
    Given a binary request with the header "ce-x" of "<header>"
    Then the attribute "x" is "<value>"

    Examples:
      | header                       | value        |
      | Euro%20%E2%82%AC%20%F0%9F%98%80 | Euro € 😀 |
      | Euro%20%e2%82%ac             | Euro €       |
      | %41                          | A            |
      | %2541                        | %41          |
      | a!#~                         | a!#~         |

  Scenario Outline: values in double quotes are unquoted first (section 3.1.3.2)
    Given a binary request with the quoted header "ce-x" of <header>
    Then the attribute "x" is <value>

    Examples:
      | header        | value   |
      | "a b"         | 'a b'   |
      | "a%20b"       | 'a b'   |
      | "a \"b\" \\\\c" | 'a "b" \\c' |

  Scenario Outline: values that are no UTF-8 are refused (section 3.1.3.2)
    Given a binary request with the header "ce-x" of "<header>"
    Then the event is refused at "/x"

    Examples:
      | header    |
      | %C0%A0    |
      | %E2%82    |
      | %ED%A0%80 |
      | %FF       |

  Scenario: structured content mode (section 3.2)
    Given the header "Content-Type" is "application/cloudevents+json; charset=UTF-8"
    When the request is read with this body:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}
      """
    Then the event is valid
    And it is forwarded as it came

  Scenario: batched content mode (section 3.3)
    Given the header "Content-Type" is "application/cloudevents-batch+json; charset=UTF-8"
    When the request is read with this body:
      """
      [{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0","id":"2","source":"/s","type":"u"}]
      """
    Then it is a batch of 2 events

  Scenario: a batch may be empty (JSON event format, section 4)
    Given the header "Content-Type" is "application/cloudevents-batch+json"
    When the request is read with this body:
      """
      []
      """
    Then it is a batch of 0 events

  Scenario Outline: the content mode is told by the content type (section 3)
    Given the header "Content-Type" is "<type>"
    When the request is read with this body:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t"}
      """
    Then the request is refused as "<reason>"

    Examples:
      | type                               | reason                    |
      | application/cloudevents+unknown    | content type not accepted |
      | application/cloudevents-batch+json | malformed request         |
      | application/json                   | content type not accepted |

  Scenario: percent-encoding of what is written (section 3.1.3.2)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","x":"Euro € 😀 \"100%\"","n":5,"yes":true,"datacontenttype":"text/plain","data":"hei"}
      """
    And it is written in the binary mode
    Then the headers are:
      | name           | value                                                |
      | Ce-Specversion | 1.0                                                  |
      | Ce-Id          | 1                                                    |
      | Ce-Source      | /s                                                   |
      | Ce-Type        | t                                                    |
      | Ce-X           | Euro%20%E2%82%AC%20%F0%9F%98%80%20%22100%25%22       |
      | Ce-N           | 5                                                    |
      | Ce-Yes         | true                                                 |
      | Content-Type   | text/plain                                           |
    And the body is "hei"
