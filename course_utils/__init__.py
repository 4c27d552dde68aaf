"""The support package of the course *Diffusion models from scratch*: small verified functions, in five floors.

Each floor imports only from itself and from below. The desk serves those who teach and make the course; a learner needs
nothing of it. This picture is the one list of the floors: tests and pages read it (`desk.floors`).

  desk     cli                                             what people type: the command `course`
           upkeep/                                         keeping it honest: measurements, mutants, rivals, pictures
           grading/                                        a class: answers read, checked in a sandbox, reported
           authoring/                                      lessons made: notebooks built, pages linted, the web page
           lesson · work · floors                          a lesson's format; learners' copies; this very picture
  show     leaderboard/ · exercises/                       every sampler compared; answers to the learner
           plotting · widgets                              figures, sliders
  learn    run_folder · metrics/                           a recipe's training in a folder; how good a network is
           pretrained · recipes/                           what ships trained; a whole training by name
           training · tasks/ · paths                       the one loop for all; what it minimises, and measures
           runs · muon · losses · classifier               what a step changes
           adversarial/ · autoencoders                     a generator and its critic; pictures as codes
           checkpoints · data/ · runtime · files           images and batches; devices; files, whole or not at all
  sample   text/ · sound · film                            blanks for noise; notes; digits that move
           inpainting · cascades · reverse_steps/          holes filled; large from small; learned variances
           denoisers/ · guidance · samplers/               networks; from noise to images
  maths    schedules/ · forward · parameterizations        tensors only
           variational/ · toy                              the bound; data whose diffusion is known
           protocols · tensors · _contract/ · _validate    what is a schedule, a denoiser; signatures that check
"""

__version__ = "0.1.0"
