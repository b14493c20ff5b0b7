//! Conversations as the text that a model was taught them in: the Jinja template that travels with it.
//!
//! Templates are rendered as transformers does it: blocks take their line with them, Python's methods of strings and
//! dictionaries work, `raise_exception` and `strftime_now` are there, `tojson` writes what Python's `json.dumps` does.

use benben_format::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind as JinjaKind, Value};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Steps that a template may take: a real one takes some thousands for each message.
const FUEL: u64 = 10_000_000;
/// Name of the template in error messages.
const NAME: &str = "chat_template";

/// Who says something, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// Something that `role` says.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Special tokens by what they are for: `bos_token`, `eos_token`.
    special: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// The template in `source`; `special` are the special tokens that it may name.
    ///
    /// # Errors
    /// Corruption where it is no template.
    pub fn new(source: String, special: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| failed(&e))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(JinjaKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| strftime(&format, seconds_now()));
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source).map_err(|e| failed(&e))?;
        Ok(Self { environment, special })
    }

    /// The text of a conversation; with `reply`, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// Unsupported, in the template's own words, where it refuses the conversation or asks for what is not there.
    pub fn render(&self, messages: &[Message], reply: bool) -> Result<String> {
        let messages = messages
            .iter()
            .map(|m| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]));
        let special = self.special.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let context = Value::from_pairs(special.chain([
            ("messages", Value::from(messages.collect::<Vec<_>>())),
            ("add_generation_prompt", Value::from(reply)),
        ]));
        let template = self.environment.get_template(NAME).map_err(|e| failed(&e))?;
        template.render(context).map_err(|e| {
            let line = e.line().map_or(String::new(), |line| format!(" (line {line})"));
            let said = e.detail().map_or_else(|| e.kind().to_string(), str::to_owned);
            Error::unsupported(format!("the chat template of the model: {said}{line}"))
        })
    }
}

fn failed(error: &minijinja::Error) -> Error {
    Error::corruption(format!("chat template: {error}"))
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: &Value, options: minijinja::value::Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // What else transformers takes leaves the text of plain values as it is.
    for name in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(name)?;
    }
    options.assert_all_used()?;
    let json = serde_json::to_value(value)
        .map_err(|e| minijinja::Error::new(JinjaKind::BadSerialization, e.to_string()))?;
    let mut text = String::new();
    dump(&json, indent.map(|n| n.min(16)), 0, &mut text);
    Ok(text)
}

fn dump(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        if let Some(n) = indent {
            out.push('\n');
            out.push_str(&" ".repeat(n * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        serde_json::Value::Array(list) if !list.is_empty() => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(out, depth + 1);
                dump(item, indent, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            out.push('{');
            for (i, (name, item)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(out, depth + 1);
                out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                out.push_str(": ");
                dump(item, indent, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The time `seconds` after 1970 (UTC), by the codes of C's `strftime` that templates use.
fn strftime(format: &str, seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let of_year = day + 1;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    // The first of January 1970 was a Thursday.
    let weekday = DAYS[usize::try_from((days + 3) % 7).unwrap_or(0)];
    let (hour, minute, day) = (second / 3600, second / 60 % 60, day + 1);
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&format!("{:02}", year % 100)),
            Some('m') => out.push_str(&format!("{:02}", month + 1)),
            Some('B') => out.push_str(MONTHS[month]),
            Some('b') => out.push_str(&MONTHS[month][..3]),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('j') => out.push_str(&format!("{of_year:03}")),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('I') => out.push_str(&format!("{:02}", (hour + 11) % 12 + 1)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{:02}", second % 60)),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use benben_format::ErrorKind;

    fn render(source: &str, messages: &[Message]) -> Result<String> {
        let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        ChatTemplate::new(source.into(), special)?.render(messages, true)
    }

    fn talk() -> Vec<Message> {
        vec![Message::new("user", "Say \"hi\" & <go>"), Message::new("assistant", " hi ")]
    }

    #[test]
    fn blocks_take_their_line_with_them() {
        let source = "{{ bos_token }}{% for m in messages %}\n    {% if m['role'] == 'user' %}\n[{{ m.content }}]\n    \
                      {% else %}\n{{ m['content'] | trim }}.\n    {% endif %}\n{% endfor %}\n\
                      {% if add_generation_prompt %}>{% endif %}";
        assert_eq!(render(source, &talk()).unwrap(), "<s>[Say \"hi\" & <go>]\nhi.\n>");
    }

    #[test]
    fn methods_of_python_work() {
        let source = "{{ messages[0].content.startswith('Say') }} {{ messages[1].content.strip().upper() }} \
                      {{ messages[0].content.split(' ')[0] }} {{ messages[::-1][0].role }} \
                      {% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }} \
                      {%- for k, v in messages[0].items() %} {{ k }}{% break %}{% endfor %}";
        assert_eq!(render(source, &talk()).unwrap().to_lowercase(), "true hi say assistant 2 role");
    }

    #[test]
    fn json_is_pythons() {
        let source = "{{ messages[0] | tojson }}{{ [1, []] | tojson(indent=2) }}";
        let expected = "{\"role\": \"user\", \"content\": \"Say \\\"hi\\\" & <go>\"}[\n  1,\n  []\n]";
        assert_eq!(render(source, &talk()).unwrap(), expected);
    }

    #[test]
    fn a_template_that_refuses_is_heard() {
        let error = render("{{ raise_exception('roles must alternate') }}", &talk()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("roles must alternate"), "{error}");
        assert_eq!(render("{% for %}", &talk()).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
                     {% endfor %}{% endfor %}{% endfor %}";
        assert!(render(loops, &talk()).is_err());
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // date -u -d @1709210096
        assert_eq!(
            strftime("%d %b %Y, %A %H:%M:%S %j %%", 1_709_210_096),
            "29 Feb 2024, Thursday 12:34:56 060 %"
        );
        assert_eq!(strftime("%a %y-%m-%d %I %p %Q", 0), "Thu 70-01-01 12 AM %Q");
    }
}
