//! A bar on stderr with the time that is left.

use crate::args::Global;
use benben::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::ops::ControlFlow;

/// A progress bar; draws nothing where nobody looks.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar headed `verb`.
    pub(crate) fn new(verb: &str, global: &Global) -> Self {
        // indicatif itself keeps quiet where stderr is no terminal.
        let hidden = global.quiet || global.no_progress;
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template(
            "{prefix} {bar:30} {percent:>3} %  {elapsed} gone, {eta} left  {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(verb.to_owned());
        Self(bar)
    }

    /// Shows where the work is.
    pub(crate) fn show(&self, progress: Progress<'_>) -> ControlFlow<()> {
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
        self.0.set_message(super::visible(progress.item).replace('\n', "\\n"));
        ControlFlow::Continue(())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
