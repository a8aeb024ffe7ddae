Feature: JSON event format
  CloudEvents JSON Event Format 1.0.2

  Scenario: required attributes and no data (section 2.2)
    When this event is read:
      """
      {"specversion":"1.0","id":"A234-1234-1234","source":"https://example.com/mycontext","type":"com.example.someevent"}
      """
    Then the event is valid
    And its attributes are:
      | name        | kind   | value                         |
      | specversion | String | 1.0                           |
      | id          | String | A234-1234-1234                |
      | source      | String | https://example.com/mycontext |
      | type        | String | com.example.someevent         |
    And it has no data

  Scenario: the types of attributes (section 2.2)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2018-04-05T17:31:00Z","anint":-42,"abool":true,"abinary":"AAEC","unset":null}
      """
    Then the event is valid
    And its attributes are:
      | name        | kind    | value                |
      | specversion | String  | 1.0                  |
      | id          | String  | 1                    |
      | source      | String  | /s                   |
      | type        | String  | t                    |
      | time        | String  | 2018-04-05T17:31:00Z |
      | anint       | Integer | -42                  |
      | abool       | Boolean | true                 |
      | abinary     | String  | AAEC                 |

  Scenario Outline: what is no value of an attribute (section 2.2)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","x":<value>}
      """
    Then the event is refused at "/x"

    Examples:
      | value       |
      | 1.5         |
      | 2147483648  |
      | -2147483649 |
      | {}          |
      | [1]         |

  Scenario Outline: data (section 3.1)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t"<members>}
      """
    Then the event is valid
    And its data is <bytes>

    Examples:
      | members                                                    | bytes    |
      | ,"datacontenttype":"application/json","data":{"a":1}       | {"a":1}  |
      | ,"data":{"a":1}                                            | {"a":1}  |
      | ,"datacontenttype":"application/vnd.x+json","data":[1]     | [1]      |
      | ,"datacontenttype":"text/xml","data":"<much wow=\"xml\"/>" | <much wow="xml"/> |
      | ,"datacontenttype":"text/plain","data_base64":"aGVp"       | hei      |

  Scenario: data and data_base64 exclude each other (section 3.1)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","data":1,"data_base64":"MQ=="}
      """
    Then the event is refused at "/data_base64"

  Scenario Outline: required attributes (CloudEvents, section 3)
    When this event is read:
      """
      {<members>}
      """
    Then the event is refused at "<pointer>"

    Examples:
      | members                                                      | pointer      |
      | "id":"1","source":"/s","type":"t"                            | /specversion |
      | "specversion":"0.3","id":"1","source":"/s","type":"t"        | /specversion |
      | "specversion":"1.0","source":"/s","type":"t"                 | /id          |
      | "specversion":"1.0","id":"","source":"/s","type":"t"         | /id          |
      | "specversion":"1.0","id":"1","type":"t"                      | /source      |
      | "specversion":"1.0","id":"1","source":"a b","type":"t"       | /source      |
      | "specversion":"1.0","id":"1","source":"/s"                   | /type        |

  Scenario Outline: optional attributes (CloudEvents, section 3)
    When this event is read:
      """
      {"specversion":"1.0","id":"1","source":"/s","type":"t","<name>":"<value>"}
      """
    Then the event is refused at "/<name>"

    Examples:
      | name            | value            |
      | subject         |                  |
      | time            | 5 April 2018     |
      | time            | 2018-04-05T17:31 |
      | dataschema      | relative/schema  |
      | datacontenttype | json             |
      | traceParent     | x                |
      | my_ext          | x                |
      | my-ext          | x                |
