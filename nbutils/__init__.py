"""Build a small judge of RAG answers from an expensive one, and measure how far to trust it.

The modules, by what they are about; the first line of each says what it does and never does.

Rows and files   records, jsonl, files, prompts, verdicts, resolution, logprobs, display
Choices          profiles, roles, runs
Models           models, judging, causal_lm, weights
On the shell     run (the series), judge (rows by the student), own (rows of your own)
corpus/          documents, retrieval, vectors, questions, question_replies, splits (01);
                 answering, own_rows (02)
callpath/        calls, stage, service, exchange, store, spend, recorded
services/        clients, endpoints, huggingface, local, embeddings (whoever answers)
review/          session, items, sources, queue, rows, progress, labels, label_file (04);
                 widget, face, page, words, reveal, acts, choices, shortcuts (what is seen)
scoring/         student, backbone, targets, training, calibration, checkpoint, kept (05)
writing/         writers; events, hosted, jobfile, tuning (by a service);
                 lessons, generative, chat_format, generation (here)
evaluation/      agreement, measures, floors, untuned, people, people_card (06)
grading/         graded, loss, frozen, heads, choosing, grader, grade_untuned, grade_floors (07);
                 grade_card, grade_measures, resampling, cutoffs, two_readings (what it is worth);
                 sweeps, head_measures (what the settings do), grade_plots
figures/         plots, pictures, drawing
runner/          series, execute, manifest, report, timings
"""

__version__ = "0.1.0"
