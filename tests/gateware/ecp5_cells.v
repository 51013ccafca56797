// Models of the ECP5 cells that Yosys has as black boxes only, as far as winohw uses them. Written for this project,
// from Lattice FPGA-TN-02205 (sysDSP) and FPGA-TN-02204 (memory).
//
// What the models do not cover leads to an instance of a module that does not exist, or to wrong results: open clock
// enables read as zero, and a second source of an operand gives its complement.

module MULT18X18D (
  input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17,
  input B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
  output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P18, P19, P20, P21, P22, P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0";
  parameter REG_INPUTB_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE";
  parameter REG_OUTPUT_CLK = "NONE";
  parameter REG_OUTPUT_CE = "CE0";
  parameter REG_OUTPUT_RST = "RST0";
  parameter RESETMODE = "SYNC";
  parameter GSR = "ENABLED";

  generate if (REG_PIPELINE_CLK != "NONE" || RESETMODE != "SYNC") MULT18X18D_configuration_without_model m (); endgenerate

  wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0} ^ {18{SOURCEA}};
  wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0} ^ {18{SOURCEB}};
  wire [17:0] ia, ib;
  wire signed [18:0] sa = {SIGNEDA & ia[17], ia};
  wire signed [18:0] sb = {SIGNEDB & ib[17], ib};
  wire signed [37:0] product = sa * sb;
  wire [35:0] o;

  MULT18X18D_register #(.WIDTH(18), .CLK(REG_INPUTA_CLK), .CE(REG_INPUTA_CE), .RST(REG_INPUTA_RST)) ra (
    .clk({CLK3, CLK2, CLK1, CLK0}), .ce({CE3, CE2, CE1, CE0}), .rst({RST3, RST2, RST1, RST0}), .d(a), .q(ia));
  MULT18X18D_register #(.WIDTH(18), .CLK(REG_INPUTB_CLK), .CE(REG_INPUTB_CE), .RST(REG_INPUTB_RST)) rb (
    .clk({CLK3, CLK2, CLK1, CLK0}), .ce({CE3, CE2, CE1, CE0}), .rst({RST3, RST2, RST1, RST0}), .d(b), .q(ib));
  MULT18X18D_register #(.WIDTH(36), .CLK(REG_OUTPUT_CLK), .CE(REG_OUTPUT_CE), .RST(REG_OUTPUT_RST)) ro (
    .clk({CLK3, CLK2, CLK1, CLK0}), .ce({CE3, CE2, CE1, CE0}), .rst({RST3, RST2, RST1, RST0}), .d(product[35:0]), .q(o));
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = o;
endmodule

module MULT18X18D_register (input [3:0] clk, input [3:0] ce, input [3:0] rst, input [WIDTH-1:0] d, output [WIDTH-1:0] q);
  parameter WIDTH = 18;
  parameter CLK = "NONE";
  parameter CE = "CE0";
  parameter RST = "RST0";

  localparam C = CLK == "CLK1" ? 1 : CLK == "CLK2" ? 2 : CLK == "CLK3" ? 3 : 0;
  localparam E = CE == "CE1" ? 1 : CE == "CE2" ? 2 : CE == "CE3" ? 3 : 0;
  localparam R = RST == "RST1" ? 1 : RST == "RST2" ? 2 : RST == "RST3" ? 3 : 0;

  generate
    if (CLK == "NONE")
      assign q = d;
    else begin
      reg [WIDTH-1:0] held = 0;
      always @(posedge clk[C])
        if (rst[R])
          held <= 0;
        else if (ce[E])
          held <= d;
      assign q = held;
    end
  endgenerate
endmodule

module DP16KD (
  input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16, DIA17,
  input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16, DIB17,
  input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
  input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
  input CLKA, CEA, OCEA, WEA, RSTA, CSA0, CSA1, CSA2,
  input CLKB, CEB, OCEB, WEB, RSTB, CSB0, CSB1, CSB2,
  output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15, DOA16, DOA17,
  output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15, DOB16, DOB17
);
  parameter DATA_WIDTH_A = 18;
  parameter DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG";
  parameter REGMODE_B = "NOREG";
  parameter CSDECODE_A = "0b000";
  parameter CSDECODE_B = "0b000";
  parameter RESETMODE = "SYNC";
  parameter GSR = "ENABLED";

  // Port A only writes and port B only reads, words of the same width.
  generate
    if (DATA_WIDTH_A != DATA_WIDTH_B || REGMODE_A != REGMODE_B || RESETMODE != "SYNC" || CSDECODE_A != "0b000"
        || CSDECODE_B != "0b000") DP16KD_configuration_without_model m ();
  endgenerate

  localparam WIDTH = DATA_WIDTH_A;
  localparam LOW = WIDTH == 36 ? 5 : WIDTH == 18 ? 4 : WIDTH == 9 ? 3 : WIDTH == 4 ? 2 : WIDTH == 2 ? 1 : 0;

  wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [35:0] di = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire selected_a = ~(CSA0 | CSA1 | CSA2), selected_b = ~(CSB0 | CSB1 | CSB2);

  reg [WIDTH-1:0] words [0:(1 << (14 - LOW)) - 1];
  wire write = CEA & WEA & selected_a;
  genvar k;
  generate
    if (WIDTH < 18)
      always @(posedge CLKA) begin
        if (write) words[ada[13:LOW]] <= di[WIDTH-1:0];
      end
    else
      for (k = 0; k < WIDTH / 9; k = k + 1)
        always @(posedge CLKA)
          if (write & ada[k]) words[ada[13:LOW]][9*k +: 9] <= di[9*k +: 9];
  endgenerate

  reg [WIDTH-1:0] fetched = 0;
  reg [17:0] doa = 0, dob = 0;
  wire [35:0] padded = fetched;
  always @(posedge CLKB) begin
    if (CEB & ~WEB & selected_b)
      fetched <= words[adb[13:LOW]];
    if (RSTA) doa <= 0; else if (OCEA) doa <= padded[17:0];
    if (RSTB) dob <= 0; else if (OCEB) dob <= WIDTH == 36 ? padded[35:18] : padded[17:0];
  end
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = REGMODE_A == "OUTREG" ? doa : padded[17:0];
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} =
    REGMODE_B == "OUTREG" ? dob : WIDTH == 36 ? padded[35:18] : padded[17:0];
endmodule
