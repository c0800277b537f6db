//! Claims due tasks, fires schedules, rescues what was lost.
