//! Conversations as the text that a model was taught them in: the Jinja template that travels with it.
//!
//! Templates are rendered as transformers does it: blocks take their line with them, Python's methods of strings and
//! dictionaries work, `raise_exception` and `strftime_now` are there, `tojson` writes what Python's `json.dumps` does.
//!
//! **A template is hostile input.** All that it does costs fuel, of which there is an amount for each conversation: a
//! step one, 64 bytes of text or list that it makes one. Doubling a string therefore ends at some 13 MB. Lists of lists
//! are shared, not copied, so that forty steps make one of 2^40 elements, and some ten thousand one as deep: before
//! text is made of a list, it is walked, with fuel for each element and a bound on depth; and rendering has a stack as
//! deep as its fuel. Two things are out of reach, since the engine has no hook there: the
//! operator `~` on such a list, and such a list as a key, which can take time and memory without bound.

use benben_format::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, ErrorKind as JinjaKind, State, Value};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Fuel of a conversation, of each message in it, and at most; each 4 bytes of text add one. Real templates take some
/// thousands, some hundreds for each message, and a sixteenth for each byte.
const FUEL: u64 = 200_000;
const FUEL_OF_MESSAGE: u64 = 5_000;
const MOST_FUEL: u64 = 3_000_000;
/// Bytes of stack beside 256 for each unit of fuel: a level of a list costs at least four, and a few frames when it is
/// let go of. Pages that are not touched take no memory.
const STACK: usize = 16 << 20;
/// Deepest list in a list of which text is made.
const DEPTH: usize = 64;
/// Filters that make text of whatever they are given.
const TEXTUAL: [&str; 13] = [
    "string",
    "upper",
    "lower",
    "title",
    "capitalize",
    "replace",
    "trim",
    "escape",
    "e",
    "urlencode",
    "safe",
    "split",
    "indent",
];
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
        environment.set_unknown_method_callback(method);
        environment.add_filter("join", join);
        for name in TEXTUAL {
            environment.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<Value>| {
                args.iter().try_for_each(|v| pay(state, v, 0))?;
                let mut plain = Environment::new();
                plain.set_fuel(Some(FUEL));
                plain.empty_state().apply_filter(name, &args)
            });
        }
        // Nothing bounds what these make of a list, or of a width; no template of a model was seen to use them.
        for filter in ["format", "pprint"] {
            environment.remove_filter(filter);
        }
        environment.add_function(
            "raise_exception",
            |state: &State<'_, '_>, message: &Value| -> Result<String, minijinja::Error> {
                pay(state, message, 0)?;
                Err(minijinja::Error::new(JinjaKind::InvalidOperation, message.to_string()))
            },
        );
        environment.add_function("strftime_now", |format: &str| strftime(format, seconds_now()));
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source).map_err(|e| failed(&e))?;
        Ok(Self { environment, special })
    }

    /// The text of a conversation; with `reply`, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// Unsupported, in the template's own words, where it refuses the conversation or asks for what is not there.
    pub fn render(&self, messages: &[Message], reply: bool) -> Result<String> {
        let mut environment = self.environment.clone();
        environment.set_formatter(|out, state, value| {
            pay(state, value, 0)?;
            minijinja::escape_formatter(out, state, value)
        });
        let text: usize = messages.iter().map(|m| m.content.len() + m.role.len()).sum();
        let fuel = FUEL_OF_MESSAGE.saturating_mul(messages.len() as u64).saturating_add(text as u64 / 4);
        let fuel = fuel.saturating_add(FUEL).min(MOST_FUEL);
        environment.set_fuel(Some(fuel));
        let stack = STACK + 256 * usize::try_from(fuel).unwrap_or(0);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(stack);
            let work = thread.spawn_scoped(scope, || self.render_in(&environment, messages, reply))?;
            work.join()
                .unwrap_or_else(|_| Err(Error::unsupported("the chat template of the model: it fails")))
        })
    }

    fn render_in(&self, environment: &Environment<'_>, messages: &[Message], reply: bool) -> Result<String> {
        let messages = messages
            .iter()
            .map(|m| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]));
        let special = self.special.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let context = Value::from_pairs(special.chain([
            ("messages", Value::from(messages.collect::<Vec<_>>())),
            ("add_generation_prompt", Value::from(reply)),
        ]));
        let template = environment.get_template(NAME).map_err(|e| failed(&e))?;
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

/// Says that a template goes too far.
fn too_much(what: &str) -> minijinja::Error {
    minijinja::Error::new(JinjaKind::InvalidOperation, what.to_owned())
}

/// Walks what text is to be made of, and pays for it.
fn pay(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
    state.consume_fuel(1 + value.as_str().map_or(0, str::len) as u64 / 64)?;
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Ok(());
    }
    if depth == DEPTH {
        return Err(too_much("lists in lists, too deep to be text"));
    }
    for item in value.try_iter()? {
        pay(state, &item, depth + 1)?;
        if value.kind() == ValueKind::Map {
            pay(state, &value.get_item(&item)?, depth + 1)?;
        }
    }
    Ok(())
}

/// Python's methods; those that make text of what they are given pay for it before.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, minijinja::Error> {
    match (value.as_str(), name, args) {
        (Some(_), "join", [list]) => state.apply_filter("join", &[list.clone(), value.clone()]),
        (Some(_), "format", _) => Err(minijinja::Error::from(JinjaKind::UnknownMethod)),
        _ => {
            args.iter().try_for_each(|v| pay(state, v, 0))?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
        }
    }
}

/// The filter of that name.
fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<&str>,
    options: Kwargs,
) -> Result<Value, minijinja::Error> {
    pay(state, value, 0)?;
    let (given, attribute): (Option<&str>, Option<&str>) = (options.get("d")?, options.get("attribute")?);
    options.assert_all_used()?;
    let joiner = joiner.or(given).unwrap_or("");
    let mut text = String::new();
    for (i, item) in value.try_iter()?.enumerate() {
        if i > 0 {
            state.consume_fuel(1 + joiner.len() as u64 / 64)?;
            text.push_str(joiner);
        }
        let item = attribute.map_or(Ok(item.clone()), |name| item.get_attr(name))?;
        match item.as_str() {
            Some(own) => text.push_str(own),
            None => text.push_str(&item.to_string()),
        }
    }
    Ok(Value::from(text))
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // What else transformers takes leaves the text of plain values as it is.
    for name in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(name)?;
    }
    options.assert_all_used()?;
    pay(state, value, 0)?;
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
    fn a_template_cannot_fill_memory() {
        // 2^64 characters, and lists of as many elements by their sharing.
        let texts = "{% set ns = namespace(x='0123456789abcdef') %}{% for i in range(64) %}{% set ns.x = OP %}{% endfor %}";
        for op in [
            "ns.x ~ ns.x",
            "ns.x + ns.x",
            "ns.x * 16",
            "ns.x.replace('0', ns.x)",
            "ns.x | replace('0', ns.x)",
            "ns.x.join([ns.x, ns.x])",
            "[ns.x, ns.x] | join(ns.x)",
            "[ns.x, ns.x] | join",
            "[ns.x, ns.x] | string",
            "[ns.x, ns.x] | tojson(indent=2)",
            "ns.x | indent(99999999, true)",
            "'%999999999s' | format(ns.x)",
            "'{:>999999999}'.format(ns.x)",
            "ns.x | center(999999999)",
        ] {
            let e = render(&texts.replace("OP", op), &talk()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unsupported, "{op}");
        }
        let lists = "{% set ns = namespace(x=['a', 'b']) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}OP";
        for op in [
            "{{ ns.x }}",
            "{{ ns.x | tojson }}",
            "{{ ns.x | join }}",
            "{{ ','.join(ns.x) }}",
            "{{ ns.x | string | length }}",
            "{{ ns.x | upper }}",
            "{{ ns.x | replace('a', 'b') }}",
            "{{ ns.x | pprint }}",
            "{{ '%s' | format(ns.x) }}",
            "{{ '{}'.format(ns.x) }}",
            "{{ ns.x | urlencode }}",
            "{{ {'a': ns.x} }}",
            "{{ {'a': ns.x} | tojson }}",
            "{{ ns.x | sum(start=[]) }}",
            "{{ ns.x | escape }}",
            "{{ ns.x == ns.x[0] }}",
            "{{ raise_exception(ns.x) }}",
            "{{ strftime_now(ns.x) }}",
            "{{ 'a'.startswith(ns.x) }}",
            "{{ [ns.x, ns.x[0]] | sort }}",
            "{{ [ns.x, ns.x] | unique | list | length }}{{ ns.x }}",
        ] {
            let started = std::time::Instant::now();
            let result = render(&lists.replace("OP", op), &talk());
            // What only compares or looks is paid for by the engine, or has nothing to pay.
            assert!(result.is_err() || !op.contains("{{ ns.x }}") && result.unwrap().len() < 99, "{op}");
            assert!(started.elapsed().as_secs() < 20, "{op}");
        }
    }

    #[test]
    fn a_template_cannot_exhaust_the_stack() {
        let deep = "{% set ns = namespace(x=[]) %}{% for a in range(999) %}{% for b in range(999) %}\
                    {% set ns.x = [ns.x] %}{% endfor %}{% endfor %}{{ ns.x | tojson }}";
        assert!(render(deep, &talk()).is_err());
        let less = "{% set ns = namespace(x=[]) %}{% for a in range(20) %}{% for b in range(999) %}\
                    {% set ns.x = [ns.x] %}{% endfor %}{% endfor %}OP";
        for op in ["{{ ns.x | tojson }}", "{{ ns.x | join }}", "{{ ns.x }}"] {
            assert!(render(&less.replace("OP", op), &talk()).is_err(), "{op}");
        }
    }

    #[test]
    fn long_conversations_are_rendered() {
        let source = "{% for m in messages %}{% if m['role'] not in ['user', 'assistant'] %}{{ raise_exception('?') }}\
                      {% endif %}<{{ m['role'] | upper }}>{{ m['content'].strip() | trim }}{% endfor %}";
        let messages: Vec<Message> =
            (0..2000).map(|i| Message::new("user", format!("{i} {}", "word ".repeat(2000)))).collect();
        assert!(render(source, &messages).unwrap().len() > 2000 * 9999);
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
