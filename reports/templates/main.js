// Puts the report of a run together.

runMasthead(data);
answer(data);
projectionSection(data);
headroomList(data);
phasesFigure(data);
modulesFigure(data);
explorer(data);
optimizerSection(data);
timingSection(data);
metricsSection(data);
trustSection(data);
deviceSection(data);
finish();
